-- Removes a queue with all it holds; tells those who consume from it.
local function delete(name)
  local keys = { P .. 'm:' .. name }
  for _, kind in ipairs({ 'h', 'l', 'c', 'k' }) do keys[#keys + 1] = P .. kind .. ':' .. name end
  for line = 0, 9 do
    keys[#keys + 1] = P .. 'w' .. line .. ':' .. name
    keys[#keys + 1] = P .. 'r' .. line .. ':' .. name
  end
  if call('UNLINK', unpack(keys)) == 0 then return end
  call('SREM', P .. 'queues', name)
  call('ZREM', P .. 'agenda', name)
  if call('HDEL', P .. 'bindings', name) == 1 then call('INCR', KEYS[1]) end
  call('PUBLISH', WAKE, 'q' .. name)
  call('PUBLISH', WAKE, 'r' .. name)
end
