-- Does what is due. ARGV: how long a lease is.
-- Returns in how many milliseconds there is more to do, -1 where nothing is; then the numbers of
-- messages that are due, their levels and topics: who called routes those.
local now = milliseconds()
local due = call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 100)
local out = { -1 }
for _, number in ipairs(due) do
  local held = call('HGET', P .. 'held', number)
  if not held then
    call('ZREM', P .. 'delayed', number)
  else
    local level, kind, length = string.byte(held, 1), string.sub(held, 2, 2), string.byte(held, 3)
    local address = string.sub(held, 4, 3 + length)
    if kind == 't' then
      out[#out + 1] = number
      out[#out + 1] = level
      out[#out + 1] = address
    else
      local message = string.sub(held, 4 + length)
      -- It waited long enough: a full queue takes it.
      local kept = push(address, level, message, true)
      -- A bounded queue may still refuse it, as dead letters do; then it waits on.
      if kept == -1 or (kept == 0 and not keep_aside(message)) then
        call('ZADD', P .. 'delayed', now + 1000, number)
      else
        call('ZREM', P .. 'delayed', number)
        call('HDEL', P .. 'held', number)
      end
    end
  end
end

local looks = call('ZRANGEBYSCORE', P .. 'agenda', '-inf', now, 'LIMIT', 0, 100)
for _, name in ipairs(looks) do
  local again
  local s = call('HMGET', P .. 'm:' .. name, 'e', 'u', 't')
  if s[3] then
    expire(name, now)
    local entry = oldest(name)
    again = entry and tonumber(string.sub(entry, 1, 13))
  elseif s[1] then
    local unused = tonumber(s[2])
    local consumers = call('HGETALL', P .. 'k:' .. name)
    for at = 1, #consumers, 2 do
      local until_, count = string.match(consumers[at + 1], '^(%d+) (%d+)')
      until_ = tonumber(until_)
      if until_ > now and count ~= '0' then
        again = math.max(again or 0, until_)
      elseif until_ <= now then
        unused = math.max(unused, until_ - tonumber(ARGV[1]))
        call('HDEL', P .. 'k:' .. name, consumers[at])
      end
    end
    call('HSET', P .. 'm:' .. name, 'u', string.format('%.0f', unused))
    if not again then
      again = unused + s[1]
      if again <= now then
        delete(name)
        again = nil
      end
    end
  end
  if again then
    call('ZADD', P .. 'agenda', math.max(again, now + 1), name)
  else
    call('ZREM', P .. 'agenda', name)
  end
end

if #due == 100 or #looks == 100 then
  out[1] = 0
else
  local next
  for _, key in ipairs({ 'delayed', 'agenda' }) do
    local first = call('ZRANGEBYSCORE', P .. key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if first[2] then next = math.min(next or math.huge, tonumber(first[2])) end
  end
  if next then out[1] = math.max(next - now, 1) end
end
return out
