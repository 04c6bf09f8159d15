-- Counts the conversations that are kept. KEYS: the index. ARGV: the present.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
return redis.call('ZCARD', KEYS[1])
