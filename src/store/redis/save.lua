-- Stores a conversation, unless there are as many as there may be.
-- KEYS: the conversation, the index. ARGV: record, deadline, time to keep it, until when that is,
-- limit (none below zero), member of the index, the present.
local limit = tonumber(ARGV[5])
if limit >= 0 and not redis.call('ZSCORE', KEYS[2], ARGV[6])
  and redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[7], '+inf') >= limit then
  return 0
end
-- The first write is one that needs memory: only that is refused where there is none.
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'deadline', ARGV[2])
redis.call('HDEL', KEYS[1], 'taken')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[7])
return 1
