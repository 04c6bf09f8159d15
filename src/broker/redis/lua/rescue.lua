-- Moves a message that was kept aside to a queue. ARGV: where it is kept; its place, or ''; the entry;
-- the queue; the level of priority. Returns 1 if it was moved.
local from, place, entry = ARGV[1], ARGV[2], ARGV[3]
if call('EXISTS', P .. 'm:' .. ARGV[4]) == 0 then return 0 end
if place == '' then
  if call('LREM', P .. 'w0:' .. from, 1, entry) == 0 then return 0 end
else
  if call('ZREM', P .. 'r0:' .. from, place) == 0 then return 0 end
  call('HDEL', P .. 'h:' .. from, place)
  call('HDEL', P .. 'c:' .. from, place)
end
call('HINCRBY', P .. 'm:' .. from, 'b', -#entry)
push(ARGV[4], tonumber(ARGV[5]), string.sub(entry, 14), true)
return 1
