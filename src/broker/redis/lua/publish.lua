-- Publishes messages, each to all of its queues or to those that have room.
--
-- ARGV: the epoch of the bindings that the publisher knows; then for each message whether it depends
-- on it (1), as one to a topic does; the level of priority; the message; how many queues there are, and
-- which.
-- Returns for each message -1 if the bindings have changed, 0 if no queue is there, 1 if all have it;
-- or whether any has it, and the numbers of those that are full; or what is wrong with a key.
local is_stale = (call('GET', KEYS[1]) or '0') ~= ARGV[1]

local function publish(level, message, first, last)
  local taken, full = 0, nil
  for at = first, last do
    local pushed = push(ARGV[at], level, message)
    if pushed == 1 then
      taken = 1
    elseif pushed == -1 then
      full = full or {}
      full[#full + 1] = at - first
    end
  end
  if full then return { taken, unpack(full) } end
  return taken
end

local out, at = {}, 2
while at <= #ARGV do
  local last = at + 3 + tonumber(ARGV[at + 3])
  if is_stale and ARGV[at] == '1' then
    out[#out + 1] = -1
  else
    local level, message = tonumber(ARGV[at + 1]), ARGV[at + 2]
    local is_done, result = pcall(publish, level, message, at + 4, last)
    if not is_done then
      -- A key of somebody else is the matter of this message alone; all else is the server's.
      local text = type(result) == 'table' and result.err or tostring(result)
      if not string.find(text, 'WRONGTYPE', 1, true) then error(result, 0) end
      result = text
    end
    out[#out + 1] = result
  end
  at = last + 1
end
return out
