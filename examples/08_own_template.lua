-- A prompt template of one's own, for --template ./08_own_template.lua: what stands around a question.
-- lua/lucid/template.lua has the published ones and says what each field means.
--   lucid describe --model runs/demo/base --image cat.jpg --template examples/08_own_template.lua --explain
return {
  text = "<image>\nQuestion: {q}\nAnswer:",
  next = "\nQuestion: {q}\nAnswer:",
}
