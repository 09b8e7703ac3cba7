#!/usr/bin/env python3
"""Draws the demo's output as an SVG terminal: picture.py < demo.txt > docs/images/demo.svg"""
import html
import re
import sys

WIDTH, LINE, PAD, CHAR = 118, 19, 18, 8.43


def main():
    lines = [re.sub(r"\033\[[0-9;]*m", "", l.rstrip("\n")) for l in sys.stdin]
    while lines and not lines[0].strip():
        lines.pop(0)
    wrapped = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        while len(line) > WIDTH:
            cut = line.rfind(" ", indent + 1, WIDTH)
            cut = cut if cut > indent else WIDTH
            wrapped.append(line[:cut])
            line = " " * (indent + 2) + line[cut:].lstrip()
        wrapped.append(line)
    width, height = int(WIDTH * CHAR + 2 * PAD), len(wrapped) * LINE + 3 * PAD + 12
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
          'role="img" aria-label="Output of ./dev demo">')
    print(f'<rect width="100%" height="100%" rx="10" fill="#12161d"/>')
    for i, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        print(f'<circle cx="{PAD + 4 + i * 20}" cy="{PAD}" r="6" fill="{colour}"/>')
    print('<g font-family="ui-monospace,SFMono-Regular,Menlo,DejaVu Sans Mono,Consolas,monospace" font-size="14" '
          'xml:space="preserve">')
    for i, line in enumerate(wrapped):
        colour, weight = "#c9d3df", "normal"
        if re.match(r"\[ *[0-9.]+ s\]", line):
            colour, weight = "#6cc7f2", "bold"
        elif "equal to the last digit" in line:
            colour, weight = "#7ee29b", "bold"
        elif re.search(r"Xid|cause gpu|stopping|delayed", line):
            colour = "#f6b26b"
        elif "checkpoint of step" in line:
            colour = "#9fb8d0"
        print(f'<text x="{PAD}" y="{2 * PAD + 20 + i * LINE}" fill="{colour}" font-weight="{weight}">{html.escape(line)}</text>')
    print("</g></svg>")


main()
