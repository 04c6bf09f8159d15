-- Returns the epoch of the bindings, and for each queue its patterns.
return { call('GET', KEYS[1]) or '0', call('HGETALL', P .. 'bindings') }
