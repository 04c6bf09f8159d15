-- Holds a message until it is due. ARGV: in how many milliseconds; how many may be held; what is
-- held: the level of priority, the kind and the length of the address, the address, the message.
-- Returns 1, or 0 where too many are held.
if call('ZCARD', P .. 'delayed') >= tonumber(ARGV[2]) then return 0 end
local time = call('TIME')
local due = time[1] * 1000 + math.ceil(time[2] / 1000) + tonumber(ARGV[1])
local number = string.format('%016.0f', call('INCR', P .. 'places'))
local first = call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')
call('ZADD', P .. 'delayed', due, number)
call('HSET', P .. 'held', number, ARGV[3])
if not first[2] or due < tonumber(first[2]) then call('PUBLISH', WAKE, 't') end
return 1
