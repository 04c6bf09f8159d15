-- Counts what is in a queue. ARGV: the queue.
-- Returns what is ready, handed out, and how many consume; nothing where there is no such queue.
local name = ARGV[1]
local s = call('HMGET', P .. 'm:' .. name, 'o', 't', 'f', 'q', 'k')
if not s[1] then return false end
local now = milliseconds()
if s[2] then expire(name, now) end
end_leases(name, { s[3], s[4], s[5] }, now)
local consumers = 0
for _, known in ipairs(call('HVALS', P .. 'k:' .. name)) do
  local until_, count = string.match(known, '^(%d+) (%d+)')
  if tonumber(until_) > now then consumers = consumers + count end
end
return { ready(name, s[1]), call('ZCARD', P .. 'l:' .. name), consumers }
