-- Asks for a page that nobody has asked for before, each time: /page/RUN/NUMBER.
local run, number

function init(args)
    run, number = args[2], 0
end

function request()
    number = number + 1
    return wrk.format("GET", "/page/" .. run .. "/" .. number)
end
