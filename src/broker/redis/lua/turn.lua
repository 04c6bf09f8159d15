-- A reader's turn: settles what it has, and claims what it has room for.
--
-- ARGV: the queue; the reader; the number of the turn; whether the turn is repeated; how many
-- messages it has room for; how many bytes it takes; how long a lease is; how many consume through it;
-- whether it tells that it is there (1) or leaves (2); then four times a count and as many numbers:
-- places that were handed out for the first time and are done; and, as pairs of place and how often
-- it came back, what is done, given back, held on to. Settling with an old number does nothing.
-- Returns 'gone' where there is no such queue. Otherwise -2 if there may be more in the queue, -1 if
-- there is not, or in how many milliseconds a lease ends, after which there may be; then for each
-- message the place, how often it came back, and the message.
local name, reader = ARGV[1], ARGV[2]
local m, h, l, c = P .. 'm:' .. name, P .. 'h:' .. name, P .. 'l:' .. name, P .. 'c:' .. name
local k = P .. 'k:' .. name
local q = call('HMGET', m, 'o', 'f', 'q', 'k', 't', 'w', 'x', 'e', 'T')
if not q[1] then return 'gone' end
-- Once something was removed, Redis lets a script go on that has no memory left: what is handed out
-- gives memory back in the end.
call('HDEL', k, '')
local order, queue = q[1], { q[2], q[3], q[4] }
local now = milliseconds()
local lease = now + tonumber(ARGV[7])

local at = 10
local done = tonumber(ARGV[at])
if done > 0 then
  local places = { unpack(ARGV, at + 1, at + done) }
  if call('EXISTS', c) == 1 then
    local came_back, first = call('HMGET', c, unpack(places)), {}
    for i, place in ipairs(places) do
      if not came_back[i] then first[#first + 1] = place end
    end
    places = first
  end
  if #places > 0 then
    call('ZREM', l, unpack(places))
    call('HDEL', h, unpack(places))
  end
  at = at + done
end
at = at + 1

-- Calls `settle` with each place of the next list that is still handed out by that number.
local function each(settle)
  local pairs = tonumber(ARGV[at])
  for i = at + 1, at + 2 * pairs, 2 do
    local place = ARGV[i]
    if (call('HGET', c, place) or '0') == ARGV[i + 1] and call('ZSCORE', l, place) then
      settle(place)
    end
  end
  at = at + 2 * pairs + 1
end
each(function(place)
  call('ZREM', l, place)
  call('HDEL', h, place)
  call('HDEL', c, place)
end)
each(function(place) give_back(name, queue, place, now) end)
each(function(place) call('ZADD', l, lease, place) end)

end_leases(name, queue, now)
if q[5] then expire(name, now) end

local out, claimed = { -2 }, {}
local bytes = 0

local function hand_out(place, returns, entry)
  bytes = bytes + #entry
  claimed[#claimed + 1] = place
  out[#out + 1] = place
  out[#out + 1] = returns
  out[#out + 1] = q[5] and string.sub(entry, 14) or entry
end

if ARGV[4] == '1' then
  -- The answer of the last turn was lost: what was claimed then is still this reader's.
  local last = call('HGET', k, reader)
  local number, places = string.match(last or '', '^%d+ %d+ (%d+)(.*)$')
  if number == ARGV[3] then
    for place, returns in string.gmatch(places, '(%d+):(%d+)') do
      local entry = call('HGET', h, place)
      if entry and (call('HGET', c, place) or '0') == returns and call('ZSCORE', l, place) then
        call('ZADD', l, lease, place)
        hand_out(place, returns, entry)
      end
    end
  end
end

-- What is handed out again was subtracted the first time.
local again = bytes

-- Which lines the next `count` messages are taken from, one after the other, where there are several.
local function plan(count)
  local lines, has = {}, {}
  for line = 0, LINES[order] - 1 do
    has[line] = call('LLEN', P .. 'w' .. line .. ':' .. name)
      + call('ZCARD', P .. 'r' .. line .. ':' .. name)
  end
  if order == '1' then
    for line = 0, 9 do
      for _ = 1, math.min(has[line], count - #lines) do lines[#lines + 1] = line end
    end
    return lines
  end
  local shares = {}
  for share in string.gmatch(q[9] or '8 4 2 1', '%d') do shares[#shares + 1] = tonumber(share) end
  while #lines < count do
    local chosen, waiting
    for line = 0, 3 do
      if has[line] > 0 then
        waiting = waiting or line
        if shares[line + 1] > 0 then
          chosen = line
          break
        end
      end
    end
    if not waiting then break end
    if not chosen then
      chosen = waiting
      shares = { 8, 4, 2, 1 }
    end
    shares[chosen + 1] = shares[chosen + 1] - 1
    has[chosen] = has[chosen] - 1
    lines[#lines + 1] = chosen
  end
  q[9] = table.concat(shares, ' ')
  return lines
end

-- Takes messages out of a line: first what came back, which was there before.
local function take(line, count)
  local found = {}
  local r = P .. 'r' .. line .. ':' .. name
  local came_back = call('ZRANGE', r, 0, count - 1)
  if #came_back > 0 then
    call('ZREM', r, unpack(came_back))
    local entries, returns = call('HMGET', h, unpack(came_back)), call('HMGET', c, unpack(came_back))
    for i, place in ipairs(came_back) do
      if entries[i] then
        call('ZADD', l, lease, place)
        found[#found + 1] = { place, returns[i] or '0', entries[i] }
      end
    end
  end
  if #found < count then
    local entries = call('LPOP', P .. 'w' .. line .. ':' .. name, count - #found)
    if entries then
      local last, leases, bodies = call('INCRBY', P .. 'places', #entries), {}, {}
      for i, entry in ipairs(entries) do
        local place = string.format('%.0f', (last - #entries + i) * 16 + line)
        found[#found + 1] = { place, '0', entry }
        leases[2 * i - 1], leases[2 * i] = lease, place
        bodies[2 * i - 1], bodies[2 * i] = place, entry
      end
      call('ZADD', l, unpack(leases))
      call('HSET', h, unpack(bodies))
    end
  end
  return found
end

local room, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local drained = false
-- Few at first, since nobody knows how large they are.
local at_once = 4
while #claimed < room and bytes < most and not drained do
  local count = math.min(at_once, room - #claimed)
  if #claimed > 0 then
    count = math.max(1, math.min(count, math.floor((most - bytes) * #claimed / bytes)))
  end
  if order == '0' then
    local found = take(0, count)
    drained = #found < count
    for _, message in ipairs(found) do hand_out(message[1], message[2], message[3]) end
  else
    local lines = plan(count)
    drained = #lines < count
    local counts, found = {}, {}
    for _, line in ipairs(lines) do counts[line] = (counts[line] or 0) + 1 end
    for line, of_line in pairs(counts) do found[line] = { 0, take(line, of_line) } end
    for _, line in ipairs(lines) do
      local of_line = found[line]
      of_line[1] = of_line[1] + 1
      local message = of_line[2][of_line[1]]
      if message then hand_out(message[1], message[2], message[3]) end
    end
  end
  at_once = at_once * 2
end

if #claimed > 0 then
  if order == '2' then call('HSET', m, 'T', q[9]) end
  if q[4] then call('HINCRBY', m, 'b', again - bytes) end
  if q[6] and ready(name, order) < tonumber(q[7]) then
    call('HDEL', m, 'w')
    call('PUBLISH', WAKE, 'r' .. name)
  end
end
if room > 0 and drained then
  call('HSET', m, 'z', 1)
  local first = call('ZRANGE', l, 0, 0, 'WITHSCORES')
  out[1] = first[2] and math.max(tonumber(first[2]) - now, 1) or -1
end

local consumers = ARGV[8]
if ARGV[9] == '1' or #claimed > 0 then
  local known = { string.format('%.0f', lease), consumers, ARGV[3] }
  for i = 2, #out, 3 do known[#known + 1] = out[i] .. ':' .. out[i + 1] end
  call('HSET', k, reader, table.concat(known, ' '))
end
if ARGV[9] == '2' then
  call('HDEL', k, reader)
  if q[8] then
    call('HSET', m, 'u', string.format('%.0f', now))
    call('ZADD', P .. 'agenda', now + q[8], name)
    call('PUBLISH', WAKE, 't')
  end
end
return out
