"""What is asked of every page in a browser."""

CONFORMANCE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""WCAG 2.2 A and AA, and what axe recommends beyond them."""

SPILLS = """() => [...document.querySelectorAll("body *")]
  .filter(element => element.getBoundingClientRect().right > innerWidth + 0.5 || element.scrollWidth > innerWidth)
  .map(element => element.outerHTML.slice(0, 80))"""
"""The elements that are wider than the window."""
