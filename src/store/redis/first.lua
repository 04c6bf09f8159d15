-- Lists an agent's conversations with the earliest deadlines, each with until when it is kept.
-- KEYS: the index. ARGV: what the agent's members begin with.
local first = {}
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #all, 2 do
  if string.sub(all[at], 1, #ARGV[1]) == ARGV[1] then
    first[#first + 1] = {string.sub(all[at], #ARGV[1] + 1), all[at + 1]}
    if #first == 16 then
      break
    end
  end
end
return first
