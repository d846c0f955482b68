-- busted's output: a dot a test, every failure in full, the slowest file, and one last line that programs
-- read: "N passed, N failed" (", N skipped").
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local function mark(status)
    local marks = { success = ".", pending = "s", failure = "F", error = "E" }
    io.write(marks[status] or "?")
    io.flush()
    return nil, true
  end

  handler.testEnd = function(_, _, status) return mark(status) end

  local function show(kind, list)
    for _, t in ipairs(list) do
      local message = t.message
      if type(message) == "table" then message = message.message or tostring(message) end
      print(("\n%s: %s\n  %s"):format(kind, handler.getFullName(t), tostring(message):gsub("\n", "\n  ")))
      if options.verbose and t.trace and t.trace.traceback then print(t.trace.traceback) end
    end
  end

  handler.suiteEnd = function()
    print()
    show("failure", handler.failures)
    show("error", handler.errors)
    for _, t in ipairs(handler.pendings) do
      print(("skipped: %s%s"):format(handler.getFullName(t), t.message and ": " .. tostring(t.message) or ""))
    end
    local skipped = handler.pendingsCount
    print(("%d passed, %d failed%s"):format(handler.successesCount, handler.failuresCount + handler.errorsCount,
      skipped > 0 and (", %d skipped"):format(skipped) or ""))
    return nil, true
  end

  handler.error = function(element)
    if element.descriptor ~= "it" then mark("error") end
    return nil, true
  end

  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  busted.subscribe({ "error", "file" }, handler.error)
  busted.subscribe({ "error", "describe" }, handler.error)
  return handler
end
