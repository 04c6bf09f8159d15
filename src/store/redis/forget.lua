-- Lets go of a claim. KEYS: the claim. ARGV: its name.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
