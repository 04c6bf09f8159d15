-- Marks a message as handled, and removes what is too old or too much.
-- KEYS: the claim, the outcome, outcomes by age, replies by age, sizes of replies, how many bytes
-- they have. ARGV: name of the claim, how long outcomes are kept, the message, what outcomes' keys
-- begin with, type, payload, how many outcomes there may be, and how many bytes of replies.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function remove(message)
  redis.call('DEL', ARGV[4] .. message)
  redis.call('ZREM', KEYS[3], message)
  redis.call('ZREM', KEYS[4], message)
  local size = redis.call('HGET', KEYS[5], message)
  if size then
    redis.call('HDEL', KEYS[5], message)
    redis.call('DECRBY', KEYS[6], size)
  end
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
-- A hundred at a time, where one is added.
local oldest = now - ARGV[2] * 1000
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', oldest, 'LIMIT', 0, 100)) do
  remove(old)
end
remove(ARGV[3])
while redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) do
  remove(redis.call('ZRANGE', KEYS[3], 0, 0)[1])
end
local size = #ARGV[6]
if size > 0 then
  -- Of the replies, so that large ones do not push out what has none.
  while tonumber(redis.call('GET', KEYS[6]) or 0) + size > tonumber(ARGV[8]) do
    local first = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
    if not first then
      break
    end
    remove(first)
  end
  redis.call('ZADD', KEYS[4], now, ARGV[3])
  redis.call('HSET', KEYS[5], ARGV[3], size)
  redis.call('INCRBY', KEYS[6], size)
end
redis.call('HSET', KEYS[2], 'type', ARGV[5], 'payload', ARGV[6])
redis.call('ZADD', KEYS[3], now, ARGV[3])
for at = 2, #KEYS do
  redis.call('PEXPIRE', KEYS[at], ARGV[2] * 2)
end
return redis.status_reply('OK')
