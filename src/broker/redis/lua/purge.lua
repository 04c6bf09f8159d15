-- Removes what is ready, and returns how much that was; -1 where there is no such queue.
local name = ARGV[1]
local s = call('HMGET', P .. 'm:' .. name, 'o', 't', 'w')
if not s[1] then return -1 end
if s[2] then expire(name, milliseconds()) end
local count = ready(name, s[1])
for line = 0, LINES[s[1]] - 1 do
  local came_back = P .. 'r' .. line .. ':' .. name
  for _, place in ipairs(call('ZRANGE', came_back, 0, -1)) do
    call('HDEL', P .. 'h:' .. name, place)
    call('HDEL', P .. 'c:' .. name, place)
  end
  call('UNLINK', came_back, P .. 'w' .. line .. ':' .. name)
end
call('HDEL', P .. 'm:' .. name, 'b', 'w')
if s[3] then call('PUBLISH', WAKE, 'r' .. name) end
return count
