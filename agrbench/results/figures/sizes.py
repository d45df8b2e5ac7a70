"""What is known of figures without altair: their sizes, and what to install."""

COLUMN = 3.3  # inches, the width of a column in most two-column papers
INCH = 72  # points, which are a chart's pixels: a PDF has the same width
EXTRA = "altair and vl-convert draw figures and are not both installed; write pip install 'agrbench[page]'"
