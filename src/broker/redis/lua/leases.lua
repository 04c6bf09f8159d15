-- How messages that were handed out come back.

local function varint(number)
  if number < 128 then return string.char(number) end
  return string.char(number % 128 + 128, math.floor(number / 128))
end

-- One more header of a message in protobuf, where fields that come again are appended.
local function header(name, text)
  local body = '\10' .. varint(#name) .. name .. '\18' .. varint(#text) .. text
  return '\82' .. varint(#body) .. body
end

-- Moves what came back too often to the dead letters; `false` while those are full, or nowhere.
local function give_up(name, place, returns, dead_letters)
  local message = call('HGET', P .. 'h:' .. name, place)
  if message and dead_letters then
    message = message
      .. header('agentbus-failure-kind', 'crash_loop')
      .. header('agentbus-failure-error', 'handed out ' .. returns .. ' times and never settled')
      .. header('agentbus-failure-agent', name)
      .. header('agentbus-failure-at', string.format('%.0f', milliseconds()))
    local kept = push(dead_letters, 5, message)
    if kept == -1 or (kept == 0 and not keep_aside(message)) then return false end
  end
  call('HDEL', P .. 'h:' .. name, place)
  call('HDEL', P .. 'c:' .. name, place)
  return true
end

-- Puts a message that is handed out back to its place. `queue` has the fields f, q and k.
local function give_back(name, queue, place, now)
  if call('ZREM', P .. 'l:' .. name, place) == 0 then return end
  local returns = call('HINCRBY', P .. 'c:' .. name, place, 1)
  if queue[1] and returns > tonumber(queue[1]) then
    if not give_up(name, place, returns, queue[2]) then
      call('ZADD', P .. 'l:' .. name, now + PARKED, place)
    end
    return
  end
  call('ZADD', P .. 'r' .. (tonumber(place) % 16) .. ':' .. name, place, place)
  if queue[3] then
    call('HINCRBY', P .. 'm:' .. name, 'b', call('HSTRLEN', P .. 'h:' .. name, place))
  end
  if call('HDEL', P .. 'm:' .. name, 'z') == 1 then call('PUBLISH', WAKE, 'q' .. name) end
end

-- Ends the leases that have run out, at most 100 at a time.
local function end_leases(name, queue, now)
  local ended = call('ZRANGEBYSCORE', P .. 'l:' .. name, '-inf', now, 'LIMIT', 0, 100)
  for _, place in ipairs(ended) do give_back(name, queue, place, now) end
end
