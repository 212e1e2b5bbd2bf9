package timeline

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Measures of the picture, in units of its view box.
const (
	width     = 980
	left      = 200 // the plot is between left and right; before it are the kids, right of it is room for half a label
	right     = 940
	head      = 28 // the height of the axis
	rowHeight = 24
	barHeight = 14
	foot      = 52 // the heights of the label of now and of the legend
	leastBar  = 2  // the width of a bar that is too short to be seen

	kidRunes   = 14  // of a kid beside the bars
	titleRunes = 200 // of a kid in the title of its row
)

// A picture is an SVG that is being drawn.
type picture struct {
	strings.Builder
	chart    Chart
	from, to time.Time
	bottom   int // of the rows
}

// SVG returns the picture of a chart as an element for an HTML page.
func SVG(c Chart) string {
	rings := c.rings()
	p := &picture{chart: c}
	p.from, p.to = c.window(rings)
	p.bottom = head
	for _, r := range rings {
		p.bottom += rowHeight * (1 + len(r.keys))
	}
	p.add(`<svg class="tl" role="img" aria-labelledby="tl-title tl-desc" viewBox="0 0 %d %d" width="%d" height="%d" xmlns="http://www.w3.org/2000/svg">`,
		width, p.bottom+foot, width, p.bottom+foot)
	p.add(`<title id="tl-title">Timeline of the signing keys</title><desc id="tl-desc">%s</desc>`, html.EscapeString(p.describe(rings)))
	p.WriteString(patterns)
	p.axis()
	y := head
	for _, r := range rings {
		p.add(`<text class="tl-alg" x="8" y="%d">%s</text><path class="tl-rule" d="M8 %dH%d"/>`, y+16, text(r.alg, kidRunes), y+22, right)
		y += rowHeight
		for _, k := range r.keys {
			p.row(k, y)
			y += rowHeight
		}
	}
	p.now()
	p.legend()
	p.WriteString("</svg>\n")
	return p.String()
}

func (p *picture) add(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// patterns fill the bars. The rectangles in them get their colours from the stylesheet.
const patterns = `<defs>
<pattern id="tl-reserve" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="tl-reserve" width="6" height="6"/><circle class="tl-dot" cx="3" cy="3" r="1"/></pattern>
<pattern id="tl-spare" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="tl-spare" width="6" height="6"/><path class="tl-line" d="M0 0V6"/></pattern>
<pattern id="tl-active" width="6" height="6" patternUnits="userSpaceOnUse"><rect class="tl-active" width="6" height="6"/></pattern>
<pattern id="tl-retiring" width="4" height="4" patternUnits="userSpaceOnUse"><rect class="tl-retiring" width="4" height="4"/><path class="tl-line" d="M0 0H4"/></pattern>
<pattern id="tl-gone" width="4" height="4" patternUnits="userSpaceOnUse"><rect class="tl-gone" width="4" height="4"/></pattern>
</defs>
`

// x returns the place of a time, and cuts what is outside of the plot.
func (p *picture) x(t time.Time) float64 {
	part := float64(t.Sub(p.from)) / float64(p.to.Sub(p.from))
	return math.Round((left+(right-left)*min(max(part, 0), 1))*10) / 10
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func (p *picture) axis() {
	for _, t := range ticks(p.from, p.to) {
		x := number(p.x(t.at))
		p.add(`<path class="tl-grid" d="M%s %dV%d"/><text class="tl-tick" x="%s" y="16">%s</text>`, x, head-6, p.bottom, x, t.label)
	}
}

// row draws a key: its kid, its stage, and then its bars. A kid can have any characters, also those that turn the direction of text.
func (p *picture) row(k Key, y int) {
	stage := k.stage(p.chart.Now)
	p.add(`<g><title>%s: %s</title><text x="16" y="%d">%s</text><text x="%d" y="%d">%s</text>`,
		text(k.KID, titleRunes), text(stage, kidRunes), y+15, text(k.KID, kidRunes), left-10, y+15, text(stage, kidRunes))
	if k.Stage == reserve && k.Publish != nil && k.Publish.After(p.chart.Now) && !p.chart.Now.IsZero() {
		p.bar(reserve, p.chart.Now, *k.Publish, y, true)
	}
	for _, s := range k.spans() {
		p.span(s, y)
	}
	if k.Revoked != nil {
		x := p.x(*k.Revoked)
		p.add(`<path class="tl-revoked" d="M%s %dl8 8m0 -8l-8 8"/>`, number(x-4), y+8)
	}
	p.add(`</g>`)
}

// span draws a stage: until now as it was, and from now on as it is planned.
func (p *picture) span(s span, y int) {
	now, to := p.chart.Now, s.to
	if s.stage == gone {
		if now.IsZero() || !now.After(s.from) {
			return
		}
		to = now
	}
	if to.IsZero() {
		to = p.to // the server has not determined the end
	}
	if now.IsZero() || !to.After(now) {
		p.bar(s.stage, s.from, to, y, false)
		return
	}
	if s.from.Before(now) {
		p.bar(s.stage, s.from, now, y, false)
		s.from = now
	}
	p.bar(s.stage, s.from, to, y, true)
}

func (p *picture) bar(stage string, from, to time.Time, y int, planned bool) {
	if to.Before(p.from) || from.After(p.to) {
		return
	}
	begin, end, height, class := p.x(from), p.x(to), barHeight, ""
	if planned {
		class = ` class="tl-plan"`
	}
	top := y + (rowHeight-barHeight)/2
	if stage == gone {
		top, height = y+rowHeight/2-1, 2
	}
	length := math.Round(max(end-begin, leastBar)*10) / 10
	p.add(`<rect%s fill="url(#tl-%s)" x="%s" y="%d" width="%s" height="%d"/>`, class, stage, number(begin), top, number(length), height)
}

func (p *picture) now() {
	if p.chart.Now.IsZero() {
		return
	}
	label := "now, " + p.chart.Now.UTC().Format("2 Jan 15:04:05")
	if p.chart.Frozen {
		label += " (the clock is frozen)"
	}
	x, anchor := p.x(p.chart.Now), ""
	if x > (left+right)/2 {
		anchor = ` text-anchor="end"`
	}
	p.add(`<path class="tl-now" d="M%s %dV%d"/><text class="tl-nowtext" x="%s" y="%d"%s>%s</text>`,
		number(x), head-6, p.bottom+4, number(x), p.bottom+16, anchor, label)
}

func (p *picture) legend() {
	y := p.bottom + 30
	for i, stage := range []string{reserve, spare, active, retiring, gone, revoked, "planned"} {
		x := 16 + i*115
		switch stage {
		case revoked:
			p.add(`<path class="tl-revoked" d="M%d %dl8 8m0 -8l-8 8"/>`, x+7, y+3)
		case "planned":
			p.add(`<rect class="tl-plan" fill="url(#tl-active)" x="%d" y="%d" width="22" height="%d"/>`, x, y, barHeight)
		default:
			p.add(`<rect fill="url(#tl-%s)" x="%d" y="%d" width="22" height="%d"/>`, stage, x, y, barHeight)
		}
		p.add(`<text class="tl-legend" x="%d" y="%d">%s</text>`, x+28, y+11, stage)
	}
}

// describe says in words what the picture shows.
func (p *picture) describe(rings []ring) string {
	if len(rings) == 0 {
		return "There are no keys."
	}
	var words []string
	for _, r := range rings {
		count := map[string]int{}
		for _, k := range r.keys {
			count[k.stage(p.chart.Now)]++
		}
		line := cut(r.alg, kidRunes) + ":"
		for _, stage := range []string{active, spare, reserve, retiring, gone, revoked} {
			if n := count[stage]; n > 0 {
				line += fmt.Sprintf(" %d %s,", n, stage)
			}
		}
		line = strings.TrimSuffix(line, ",")
		if !r.next.IsZero() {
			line += "; the next key signs from " + r.next.UTC().Format("2006-01-02 15:04:05") + " UTC"
		}
		words = append(words, line+".")
	}
	if p.chart.Frozen {
		words = append(words, "The clock is frozen, so nothing is planned.")
	}
	return strings.Join(append(words, "The table has the same times."), " ")
}

// text returns s for the content of an element.
func text(s string, most int) string { return html.EscapeString(cut(s, most)) }

// cut returns at most some characters of s, and an ellipsis if there are more. Characters that are not
// shown, or turn the direction of text, are replaced.
func cut(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > most {
			b.WriteRune('…')
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}
