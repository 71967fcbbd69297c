"""Coursework: notebooks with gaps for students, and a check that is hard to fool::

    python -m lscgan.coursework make        # masters -> student notebooks and a teacher's pack
    python -m lscgan.coursework check ...   # judge one submission, or a folder of them

A *master* is a complete notebook whose cells name their role: locked, student, answer, check or
hidden. `assignment` reads masters and derives what students and teachers get, `making` runs
masters and writes files, `checking` restores a submission and gives points, `judge` runs it under
nbval, `reports` writes tables.

The kernel of a submission only computes: a check prints lines ``name = value``, and the judge,
outside the kernel, compares them with what the master printed. This is **no sandbox** against
hostile code: a submission runs as a process of the user who checks it. The teacher's guide gives
the command that runs the check inside a container.

It needs the packages of the extra ``coursework``: ``pip install "lscgan[coursework]"``.
"""
