-- Wants a GPU (spec/cuda_spec.lua).
local lucid = require "lucid"
lucid.zeros({ 1 }, { device = "cuda" })
