# SPDX-License-Identifier: MIT
"""Small documents made from nothing: PDF, DOCX, EPUB, letters. What tests and fuzz seeds need."""
import io
import zipfile

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def pdf(pages, encrypt=False):
    """A PDF of text pages; a page is a list of lines. encrypt: it says so, and its keys fit no password."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>",
               "<< /Type /Pages /Kids [%s] /Count %d >>" % (
                   " ".join("%d 0 R" % (4 + 2 * i) for i in range(len(pages))), len(pages)),
               "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for i, lines in enumerate(pages):
        objects.append("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                       "/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * i))
        text, y = "BT /F1 12 Tf\n", 800
        for line in lines:
            escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            text += "1 0 0 1 72 %d Tm (%s) Tj\n" % (y, escaped)
            y -= 14 if line else 28
        text += "ET"
        objects.append("<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text))
    if encrypt:
        objects.append("<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <%s> /U <%s> >>" % ("41" * 32, "42" * 32))
    out, offsets = io.BytesIO(b""), []
    out.write(b"%PDF-1.4\n")
    for n, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(("%d 0 obj\n%s\nendobj\n" % (n, body)).encode("latin-1"))
    xref = out.tell()
    out.write(("xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)).encode())
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    extra = " /Encrypt %d 0 R /ID [<00> <00>]" % len(objects) if encrypt else ""
    out.write(("trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, extra, xref)).encode())
    return out.getvalue()


def archive(entries, level=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", level) as z:
        for name, data in entries:
            z.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), data, level)
    return out.getvalue()


def paragraph(text, style="", props=""):
    inner = ('<w:pPr>%s%s</w:pPr>' % ('<w:pStyle w:val="%s"/>' % style if style else "", props)) if style or props else ""
    return '<w:p>%s<w:r><w:t xml:space="preserve">%s</w:t></w:r></w:p>' % (inner, text)


def docx(body, title="", styles=None, extra=()):
    styles = styles or '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    return archive([
        ("[Content_Types].xml", "<Types/>"),
        ("docProps/core.xml", '<p xmlns:dc="d"><dc:title>%s</dc:title><dc:creator>Ann</dc:creator></p>' % title),
        ("word/styles.xml", '<w:styles %s>%s</w:styles>' % (W, styles)),
        ("word/document.xml", '<?xml version="1.0" encoding="UTF-8"?><w:document %s><w:body>%s</w:body></w:document>' % (W, body)),
        *extra])


def epub(chapters, title="Book", extra=()):
    items = "".join('<item id="c%d" href="text/c%%20%d.xhtml" media-type="application/xhtml+xml"/>' % (i, i)
                    for i in range(len(chapters)))
    spine = "".join('<itemref idref="c%d"/>' % i for i in range(len(chapters)))
    return archive([
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml", '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'),
        ("OPS/book.opf", '<package xmlns:dc="d"><metadata><dc:title>%s</dc:title><dc:creator>Bo</dc:creator>'
                         '<dc:language>en</dc:language></metadata><manifest>%s</manifest><spine>%s</spine></package>' % (title, items, spine)),
        *[("OPS/text/c %d.xhtml" % i, '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
           '<body>%s</body></html>' % text) for i, text in enumerate(chapters)],
        *extra])
