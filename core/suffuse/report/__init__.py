"""Pages for people: what was trained, how, and how good it is, in one self-contained HTML file.

    page         the page: sections in a style that is inside the file
    blocks       what a section is made of: prose, formulas, code, pictures, charts, tables
    intervals    the table of measured figures, with their intervals drawn
    figures      charts as SVG, which follow the reader's light or dark setting
    pictures     raw objects as small pictures, by the renderer of their domain
    record       what a run recorded
    view         a run as the sections of its page see it
    stages       data, forward diffusion, training, reverse diffusion
    walkthrough  write_report: the page of a run
    samples      write_samples: the page of what a model made

`suffuse report RUN` calls `walkthrough.write_report`.
"""
