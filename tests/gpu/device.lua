-- Starts the device and says what it is; without one it is one line and status 1.
local ffi = require "ffi"
local native = require "lucid.native"

local device = native.device "cuda"
print(ffi.string(native.C.lc_device_name(device)))
