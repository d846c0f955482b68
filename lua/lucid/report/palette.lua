-- The colours of pages and charts, light and dark: paper and ink, verdicts, six curves.
return [[
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1d2025; --soft: #5a616c; --line: #e1e4e8; --tint: #f6f7f9;
  --bad: #b3261e; --bad-tint: #fdeeec; --good: #1b7340; --unsure: #7c5700;
  --c1: #1f5fc4; --c2: #b45309; --c3: #1b7340; --c4: #8a3ab9; --c5: #b3261e; --c6: #0e7490;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --ink: #e4e6ea; --soft: #9ba3af; --line: #30353d; --tint: #1d2025;
    --bad: #ff8a80; --bad-tint: #3a1d1c; --good: #6fcf97; --unsure: #e0b050;
    --c1: #7fb0ff; --c2: #f0a35e; --c3: #6fcf97; --c4: #d0a0f0; --c5: #ff8a80; --c6: #5ec8dc;
  }
}
]]
