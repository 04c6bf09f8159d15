-- Claims a message, unless it is claimed or was handled.
-- KEYS: the claim, the outcome, outcomes by age, replies by age, their sizes, how many bytes they
-- have. ARGV: name of the claim, how long
-- it lasts, how long outcomes are kept, the message.
local claimed = redis.call('GET', KEYS[1])
if claimed then
  return {claimed == ARGV[1] and 0 or 1, '', ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seen = redis.call('ZSCORE', KEYS[3], ARGV[4])
if seen and tonumber(seen) > now - ARGV[3] * 1000 then
  local outcome = redis.call('HMGET', KEYS[2], 'type', 'payload')
  if outcome[1] then
    redis.call('ZADD', KEYS[3], now, ARGV[4])
    redis.call('ZADD', KEYS[4], 'XX', now, ARGV[4])
    -- Once nothing comes any more, all of it goes; no outcome stays longer than its place in these.
    for at = 2, #KEYS do
      redis.call('PEXPIRE', KEYS[at], ARGV[3] * 2)
    end
    return {2, outcome[1], outcome[2]}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {0, '', ''}
