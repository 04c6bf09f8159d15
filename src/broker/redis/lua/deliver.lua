-- Hands a message that is due to the queues of its topic. ARGV: the epoch of the bindings; the
-- message's number; the queues.
-- Returns -1 if the bindings have changed, 1 if it is done, by whomever.
local held = call('HGET', P .. 'held', ARGV[2])
if not held then
  call('ZREM', P .. 'delayed', ARGV[2])
  return 1
end
if (call('GET', KEYS[1]) or '0') ~= ARGV[1] then return -1 end
local level, message = string.byte(held, 1), string.sub(held, 4 + string.byte(held, 3))
local taken = false
for at = 3, #ARGV do
  local pushed = push(ARGV[at], level, message, true)
  taken = taken or pushed == 1
end
if not taken and not keep_aside(message) then
  local time = call('TIME')
  call('ZADD', P .. 'delayed', time[1] * 1000 + PARKED, ARGV[2])
  return 1
end
call('ZREM', P .. 'delayed', ARGV[2])
call('HDEL', P .. 'held', ARGV[2])
return 1
