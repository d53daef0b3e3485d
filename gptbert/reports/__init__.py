"""Reads finished run folders, writes what people look at: tables, figures, one HTML page.

Everything is text made here, by hand: SVG without a plotting library, HTML without a template
engine, a style sheet without a framework. So a page opens anywhere, offline, in ten years.
"""
