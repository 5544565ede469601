-- Sends the requests of a file in their order, again and again. Each ends with a blank line. The file is cut up before wrk
-- looks at the clock, so that a request costs wrk one look into a table.
local requests, last = {}, 0

function init(args)
    local file = assert(io.open(args[1], "rb"))
    local text = file:read("*a")
    file:close()
    local start = 1
    while start <= #text do
        local _, stop = text:find("\r\n\r\n", start, true)
        requests[#requests + 1] = text:sub(start, stop)
        start = stop + 1
    end
end

function request()
    last = last % #requests + 1
    return requests[last]
end
