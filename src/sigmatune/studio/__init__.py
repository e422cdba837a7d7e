"""The studio: a local page on which a schedule can be seen, moved and kept, and tuning be watched.

The page is thin. Everything that it shows comes from the functions that the command line uses; the callbacks of the tabs
(``tab_*.py``) only read fields and place results. The one piece of front-end code is the axis of noise levels, ``studio.js``.
"""
