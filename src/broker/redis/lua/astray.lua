-- Returns messages that are kept aside, from the oldest: places ('' for what was never handed out)
-- and entries. ARGV: the queue they are in; how many that were never handed out are skipped; how many
-- are looked at.
local name, out = ARGV[1], {}
local from, count = tonumber(ARGV[2]), tonumber(ARGV[3])
if from == 0 then
  for _, place in ipairs(call('ZRANGE', P .. 'r0:' .. name, 0, count - 1)) do
    out[#out + 1] = place
    out[#out + 1] = call('HGET', P .. 'h:' .. name, place)
  end
end
for _, entry in ipairs(call('LRANGE', P .. 'w0:' .. name, from, from + count - 1)) do
  out[#out + 1] = ''
  out[#out + 1] = entry
end
return out
