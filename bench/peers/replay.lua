-- Sends the requests of a file, in their order, again and again. They are taken apart once, so that one costs wrk a look
-- into a table. Each ends with a blank line.
local requests, last = {}, 0

function init(args)
    local file = assert(io.open(args[1], "rb"))
    for request in file:read("*a"):gmatch(".-\r\n\r\n") do
        requests[#requests + 1] = request
    end
    file:close()
end

function request()
    last = last % #requests + 1
    return requests[last]
end
