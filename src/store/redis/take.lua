-- Takes a conversation out, for one who may have asked before and not heard the answer.
-- KEYS: the conversation, the index. ARGV: name of who asks, how long to remember that, member of
-- the index, latest deadline.
local found = redis.call('HMGET', KEYS[1], 'record', 'deadline', 'taken')
if not found[1] then
  return {0, ''}
end
if found[3] then
  if found[3] == ARGV[1] then
    return {2, found[1]}
  end
  return {0, ''}
end
if tonumber(found[2]) > tonumber(ARGV[4]) then
  return {1, found[2]}
end
redis.call('HSET', KEYS[1], 'taken', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[3])
return {2, found[1]}
