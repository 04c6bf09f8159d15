-- Makes a queue, or finds it, and changes its bindings. ARGV: the queue; what it is, as text, or ''
-- where it must be there, whatever it is; how many arguments follow, with names and values; how many patterns are bound, and which; which are
-- bound no more.
-- Returns 'made' or 'there', and how much is kept aside; 'missing'; or 'other' and what the queue is.
local name, m = ARGV[1], P .. 'm:' .. ARGV[1]
local spec = call('HGET', m, 's')
if ARGV[2] == '' then
  if not spec then return { 'missing', '' } end
elseif spec and spec ~= ARGV[2] then
  return { 'other', spec }
end
local at = 4 + tonumber(ARGV[3])
if not spec then
  call('HSET', m, 's', ARGV[2], unpack(ARGV, 4, at - 1))
  call('SADD', P .. 'queues', name)
end
local expires = call('HGET', m, 'e')
if expires then
  local now = milliseconds()
  call('HSET', m, 'u', string.format('%.0f', now))
  call('ZADD', P .. 'agenda', now + expires, name)
  call('PUBLISH', WAKE, 't')
end

local patterns, there, changed = {}, {}, false
for pattern in string.gmatch(call('HGET', P .. 'bindings', name) or '', '%S+') do
  patterns[#patterns + 1] = pattern
  there[pattern] = true
end
local bound = at + tonumber(ARGV[at])
for i = at + 1, bound do
  if not there[ARGV[i]] then
    patterns[#patterns + 1] = ARGV[i]
    there[ARGV[i]] = true
    changed = true
  end
end
for i = bound + 1, #ARGV do
  if there[ARGV[i]] then
    there[ARGV[i]] = nil
    changed = true
  end
end
if changed then
  local left = {}
  for _, pattern in ipairs(patterns) do
    if there[pattern] then left[#left + 1] = pattern end
  end
  if #left > 0 then
    call('HSET', P .. 'bindings', name, table.concat(left, ' '))
  else
    call('HDEL', P .. 'bindings', name)
  end
  call('INCR', KEYS[1])
end
return { spec and 'there' or 'made', ready(ASIDE, '0') }
