"""Numbers of the operations on elements, on which the program and its callers agree.

Masks are 1 and 0: their conjunction is a product, their disjunction the maximum.
"""

from __future__ import annotations

ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, ABSOLUTE = range(7)
GREATER, AT_LEAST, EQUAL, CHOOSE = range(7, 11)
STEP = 5
"""Numbers of a step: the operation, the row of its result, and the rows of up to three operands."""
