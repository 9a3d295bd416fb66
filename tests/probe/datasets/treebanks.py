"""Small treebanks in CoNLL-U, of our own sentences."""

from __future__ import annotations

import gzip
from pathlib import Path

from miscible.probe.dataset import ProbeDataset, Span

GERMAN = """\
# newdoc id = reise
# sent_id = r1
# text = Wir gehen zum See.
1	Wir	wir	PRON	_	Case=Nom|Number=Plur	2	nsubj	_	_
2	gehen	gehen	VERB	_	Number=Plur|Tense=Pres	0	root	_	_
3-4	zum	_	_	_	_	_	_	_	_
3	zu	zu	ADP	_	_	5	case	_	_
4	dem	der	DET	_	Case=Dat	5	det	_	_
5	See	See	NOUN	_	Case=Dat|Number=Sing	2	obl:dir	_	SpaceAfter=No
6	.	.	PUNCT	_	_	2	punct	_	_
"""

FRENCH = """\
# sent_id = f1
1	Le	le	DET	_	_	2	det	_	_
2	prix	prix	NOUN	_	_	0	root	_	_
3-4	du	_	_	_	_	_	_	_	_
3	de	de	ADP	_	_	5	case	_	_
4	le	le	DET	_	_	5	det	_	_
5	pain	pain	NOUN	_	_	2	nmod	_	SpaceAfter=No
6	.	.	PUNCT	_	_	2	punct	_	_
"""

ARABIC = """\
# sent_id = a1
# text = وكتب الولد رسالة
1-2	وكتب	_	_	_	_	_	_	_	_
1	و	و	CCONJ	_	_	2	cc	_	_
2	كتب	كتب	VERB	_	_	0	root	_	_
3	الولد	ولد	NOUN	_	_	2	nsubj	_	_
4	رسالة	رسالة	NOUN	_	_	2	obj	_	_
"""

CHINESE = """\
# sent_id = z1
# text = 我喜欢读书。
1	我	我	PRON	_	_	2	nsubj	_	SpaceAfter=No
2	喜欢	喜欢	VERB	_	_	0	root	_	SpaceAfter=No
3	读书	读书	VERB	_	_	2	xcomp	_	SpaceAfter=No
4	。	。	PUNCT	_	_	2	punct	_	_
"""

ENGLISH = """\
# sent_id = e1
# text = I don't owe  Ann 10 000 and Bo 20.
1	I	I	PRON	_	_	4	nsubj	_	_
2-3	don't	_	_	_	_	_	_	_	_
2	do	do	AUX	_	_	4	aux	_	_
3	n't	not	PART	_	_	4	advmod	_	_
4	owe	owe	VERB	_	_	0	root	_	_
5	Ann	Ann	PROPN	_	_	4	iobj	_	_
6	10 000	10000	NUM	_	_	4	obj	_	_
7	and	and	CCONJ	_	_	8	cc	_	_
8	Bo	Bo	PROPN	_	_	4	conj	_	_
8.1	owe	owe	VERB	_	_	_	_	4:conj	_
9	20	20	NUM	_	_	8	orphan	_	SpaceAfter=No
10	.	.	PUNCT	_	_	4	punct	_	_
"""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file, gzipped if its name says so."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def many(count: int, prefix: str = "s", documents: int = 7) -> str:
    """Return sentences ``Dogs NUMBER see a cat`` in several documents, singular and plural."""
    blocks = []
    for index in range(count):
        head = f"# newdoc id = {prefix}d{index}\n" if index % documents == 0 else ""
        noun, number = [("Dogs", "Plur"), ("Dog", "Sing")][index % 2]
        blocks.append(
            f"{head}# sent_id = {prefix}{index}\n"
            f"1\t{noun}\tdog\tNOUN\t_\tNumber={number}\t3\tnsubj\t_\t_\n"
            f"2\t{prefix}{index}\t_\tNUM\t_\t_\t1\tnummod\t_\t_\n"
            "3\tsee\tsee\tVERB\t_\tTense=Pres\t0\troot\t_\t_\n"
            "4\ta\ta\tDET\t_\t_\t5\tdet\t_\t_\n"
            "5\tcat\tcat\tNOUN\t_\tNumber=Sing\t3\tobj\t_\tSpaceAfter=No\n"
            "6\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_\n"
        )
    return "\n".join(blocks)


def covered(dataset: ProbeDataset, span: Span) -> str:
    """Return the characters of a span."""
    text = dataset.texts[span.text]
    assert isinstance(text, str)
    return text[span.start : span.stop]
