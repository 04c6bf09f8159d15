CREATE TABLE conversations (
    agent TEXT NOT NULL,
    id TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (agent, id)
) WITHOUT ROWID;
CREATE INDEX conversations_by_deadline ON conversations (deadline);

CREATE TABLE claims (
    message TEXT PRIMARY KEY,
    claim TEXT NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX claims_by_end ON claims (until);

CREATE TABLE outcomes (
    message TEXT PRIMARY KEY,
    seen INTEGER NOT NULL,
    message_type TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX outcomes_by_age ON outcomes (seen);

-- Counting rows takes time that grows with them.
CREATE TABLE totals (name TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES ('conversations', 0), ('outcomes', 0), ('bytes', 0);
CREATE TRIGGER conversation_added AFTER INSERT ON conversations BEGIN
    UPDATE totals SET amount = amount + 1 WHERE name = 'conversations';
END;
CREATE TRIGGER conversation_removed AFTER DELETE ON conversations BEGIN
    UPDATE totals SET amount = amount - 1 WHERE name = 'conversations';
END;
CREATE TRIGGER outcome_added AFTER INSERT ON outcomes BEGIN
    UPDATE totals SET amount = amount + 1 WHERE name = 'outcomes';
    UPDATE totals SET amount = amount + length(NEW.payload) WHERE name = 'bytes';
END;
CREATE TRIGGER outcome_removed AFTER DELETE ON outcomes BEGIN
    UPDATE totals SET amount = amount - 1 WHERE name = 'outcomes';
    UPDATE totals SET amount = amount - length(OLD.payload) WHERE name = 'bytes';
END;
