-- ARGV: the queue.
delete(ARGV[1])
return 1
