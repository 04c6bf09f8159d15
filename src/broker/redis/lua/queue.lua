-- What several scripts share: where a message lies in a queue, and how it gets in and out.
--
-- KEYS[1] is the key of the epoch, KEYS[2] the channel of wake-ups; their hash tag keeps all keys of a
-- bus on one node. By queue:
--   m:  what the queue is, and marks   w0: … lines of what was never handed out, as lists
--   h:  bodies of what was handed out  r0: … what came back, by place
--   l:  leases, by their end           c:  how often each came back
--   k:  who consumes, and the last turn of each
-- A place is a number that no other message of the bus has; its last four bits are the line.
local P, WAKE = string.sub(KEYS[1], 1, -6), KEYS[2]
local call = redis.call

local LINES = { ['0'] = 1, ['1'] = 10, ['2'] = 4 }
local LANES = { 3, 3, 3, 2, 2, 2, 1, 1, 0, 0 }
local PARKED = 30000

-- The queue that keeps what has nowhere to go, of the bus between the braces.
local ASIDE = string.sub(P, 11, -3) .. '.delay.v1.undeliverable'

local function milliseconds()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function line_of(order, level)
  if order == '0' then return 0 end
  if order == '1' then return 10 - level end
  return LANES[level]
end

local function ready(name, order)
  local count = 0
  for line = 0, LINES[order] - 1 do
    count = count + call('LLEN', P .. 'w' .. line .. ':' .. name)
      + call('ZCARD', P .. 'r' .. line .. ':' .. name)
  end
  return count
end

-- Takes the oldest message out of a queue without priorities. What came back was there before all
-- that is still in line.
local function take_oldest(name)
  local place = call('ZRANGE', P .. 'r0:' .. name, 0, 0)[1]
  if not place then return call('LPOP', P .. 'w0:' .. name) end
  call('ZREM', P .. 'r0:' .. name, place)
  local entry = call('HGET', P .. 'h:' .. name, place)
  call('HDEL', P .. 'h:' .. name, place)
  call('HDEL', P .. 'c:' .. name, place)
  return entry
end

local function oldest(name)
  local place = call('ZRANGE', P .. 'r0:' .. name, 0, 0)[1]
  if place then return call('HGET', P .. 'h:' .. name, place) end
  return call('LINDEX', P .. 'w0:' .. name, 0)
end

-- Removes what was kept long enough; entries of such queues begin with 13 digits, which say when.
local function expire(name, now)
  local bytes = 0
  for _ = 1, 1000 do
    local entry = oldest(name)
    if not entry or tonumber(string.sub(entry, 1, 13)) > now then break end
    take_oldest(name)
    bytes = bytes + #entry
  end
  if bytes > 0 then call('HINCRBY', P .. 'm:' .. name, 'b', -bytes) end
end

local push

-- Makes room in a queue that is bounded in bytes or time, or drops its oldest; `nil` where there is
-- none. Returns what is to be kept there.
local function admit(name, message)
  local m = P .. 'm:' .. name
  local now = milliseconds()
  local s = call('HMGET', m, 'x', 'y', 'd', 'D', 't')
  if s[5] then
    expire(name, now)
    message = string.format('%013.0f', now + s[5]) .. message
  end
  local most, most_bytes = tonumber(s[1]), tonumber(s[2])
  local count, bytes = ready(name, '0'), tonumber(call('HGET', m, 'b') or 0)
  -- What is larger than all there may be is kept alone; it would never fit otherwise.
  while count > 0 and (count >= most or bytes + #message > most_bytes) do
    if not s[3] then return nil end
    local entry = take_oldest(name)
    count, bytes = count - 1, bytes - #entry
    if s[4] then
      push(s[4], 5, s[5] and string.sub(entry, 14) or entry)
    end
  end
  call('HSET', m, 'b', bytes + #message)
  if s[5] then call('ZADD', P .. 'agenda', 'NX', now + s[5], name) end
  return message
end

-- Appends a message: 1 if it is in the queue, 0 if there is no such queue, -1 if it is full.
push = function(name, level, message, force)
  local m = P .. 'm:' .. name
  local s = call('HMGET', m, 'x', 'o', 'k', 'z')
  if not s[1] then return 0 end
  if s[3] then
    message = admit(name, message)
  elseif not force and ready(name, s[2]) >= tonumber(s[1]) then
    message = nil
  end
  if not message then
    call('HSET', m, 'w', 1)
    return -1
  end
  call('RPUSH', P .. 'w' .. line_of(s[2], level) .. ':' .. name, message)
  if s[4] then
    call('HDEL', m, 'z')
    call('PUBLISH', WAKE, 'q' .. name)
  end
  return 1
end

-- Keeps aside what has nowhere to go; `false` where even that place is missing.
local function keep_aside(message)
  return push(ASIDE, 5, message) ~= 0
end
