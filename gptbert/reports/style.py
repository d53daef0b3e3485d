"""The page's style sheet: one column, system fonts, the reader's dark or light setting."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5b6675;--rule:#d9dee6;--ground:#f4f6f9;
--card:#fff;--accent:#1f5fbf;--right:#0b6b3a;--wrong:#a8261c;--wrong-ground:#fdf1ef}
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf2;--dim:#9aa5b4;--rule:#323b49;
--ground:#0e131b;--card:#161c26;--accent:#7db0ff;--right:#6fdc9c;--wrong:#ff9b90;
--wrong-ground:#2a1b1d}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:62rem;margin:0 auto;padding:3rem 1.25rem 4rem}
header p{margin:.2rem 0;color:var(--dim)}
h1{font-size:2.1rem;line-height:1.2;letter-spacing:-.02em;margin:.1rem 0 .4rem;
overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .9rem}
.eyebrow{text-transform:uppercase;letter-spacing:.09em;font-size:.78rem;font-weight:600}
section{background:var(--card);border:1px solid var(--rule);border-radius:14px;
padding:1.35rem 1.5rem;margin-top:1.25rem}
.scroll{overflow-x:auto}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:1.25rem;
margin-top:1.6rem}
.cards section{margin:0}
.cards h2{color:var(--dim);font-size:.95rem;font-weight:500;margin:0}
.big{font-size:2.9rem;line-height:1.15;font-weight:650;letter-spacing:-.03em;
font-variant-numeric:tabular-nums;margin:.1rem 0 .7rem}
.track{position:relative;height:10px;border-radius:5px;background:var(--rule);margin:.3rem 0 .8rem}
.track .fill{position:absolute;inset:0 auto 0 0;border-radius:5px;background:var(--accent)}
.track .mark{position:absolute;top:-4px;width:3px;height:18px;margin-left:-1px;border-radius:2px;
background:var(--ink);box-shadow:0 0 0 2px var(--card)}
.cards p.note{margin:0}
.note{color:var(--dim);font-size:.9rem;margin:.2rem 0 .8rem}
.warning{border-left:4px solid var(--wrong);padding:.5rem .9rem;background:var(--wrong-ground);
border-radius:0 8px 8px 0}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.5rem .9rem .5rem 0;vertical-align:top;
border-bottom:1px solid var(--rule)}
tr:last-child>*{border-bottom:0}
thead th{font-size:.82rem;color:var(--dim);font-weight:600}
tbody th{font-weight:500}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.facts{table-layout:fixed}
.facts th{width:17rem;color:var(--dim);overflow-wrap:anywhere}
.facts td{overflow-wrap:anywhere}
@media (max-width:44rem){.facts th{width:42%}section{padding:1.1rem 1rem}}
.examples td{overflow-wrap:anywhere}
.examples .text{min-width:20rem}
.text p{margin:0 0 .3rem}
.verdict{font-weight:650;white-space:nowrap}
.right .verdict{color:var(--right)}
.wrong .verdict{color:var(--wrong)}
.wrong>td:first-child{box-shadow:inset 4px 0 var(--wrong);padding-left:.8rem}
.right>td:first-child{padding-left:.8rem}
summary{cursor:pointer}
pre{margin:0;padding:.9rem 1rem;border-radius:9px;background:var(--ground);
white-space:pre-wrap;overflow-wrap:anywhere}
code,pre,.mono{font:.86rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
figure{margin:0 0 1.2rem;overflow-x:auto}
figure:last-child{margin:0}
svg{display:block}
figure svg{width:100%;min-width:34rem;height:auto}
figure:focus-visible{outline:2px solid var(--accent)}
footer{color:var(--dim);font-size:.85rem;margin-top:1.6rem}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
