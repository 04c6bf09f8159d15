-- ARGV: the epoch of the bindings that the publisher knows, or '' for queues by name; the level of
-- priority; the message; the queues.
-- Returns -1 if the bindings have changed, 0 if no queue is there, 1 if all have the message; or
-- whether any has it, and the numbers of those that are full.
if ARGV[1] ~= '' and (call('GET', KEYS[1]) or '0') ~= ARGV[1] then return -1 end
local level, message = tonumber(ARGV[2]), ARGV[3]
local taken, full = 0, nil
for at = 4, #ARGV do
  local pushed = push(ARGV[at], level, message)
  if pushed == 1 then
    taken = 1
  elseif pushed == -1 then
    full = full or {}
    full[#full + 1] = at - 4
  end
end
if full then return { taken, unpack(full) } end
return taken
