// Package plot draws what a server did in the last hour as an SVG: a bar for each minute, in a row for tokens, one for
// refusals and one for refresh tokens that were used again. Each row has a scale of its own.
//
// The picture is a pure function of the minutes. Its colours come from the stylesheet of the page, which the classes of
// package timeline name.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"

	"keymill/issuer/api"
)

// Measures of the picture, in units of its view box.
const (
	width     = 980
	left      = 210 // of the bars; before it are the names
	step      = 12  // from one bar to the next
	barWidth  = 10
	head      = 8
	rowHeight = 58
	barHeight = 40 // of the highest bar
	foot      = 24 // the height of the axis

	minutes = 60
	tickAll = 10 // minutes
)

// A Row is one series of a plot.
type Row struct {
	Name  string
	Count func(api.ActivityMinute) uint64
}

// Rows returns the series in their order.
func Rows() []Row {
	return []Row{
		{"Tokens", func(m api.ActivityMinute) uint64 { return m.Tokens }},
		{"Refusals", func(m api.ActivityMinute) uint64 { return m.Refusals }},
		{"Used again", func(m api.ActivityMinute) uint64 { return m.Reuses }},
	}
}

// SVG returns the picture as an element for an HTML page. list has the minutes in their order; the newest 60 are drawn.
func SVG(list []api.ActivityMinute) string {
	list = list[max(len(list)-minutes, 0):]
	bottom := head + rowHeight*len(Rows())
	var p strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&p, format+"\n", args...) }
	add(`<svg class="tl" role="img" aria-labelledby="plot-title plot-desc" viewBox="0 0 %d %d" width="%d" height="%d" xmlns="http://www.w3.org/2000/svg">`,
		width, bottom+foot, width, bottom+foot)
	add(`<title id="plot-title">Tokens and refusals per minute</title><desc id="plot-desc">%s</desc>`, html.EscapeString(describe(list)))
	for back := minutes - 1; back >= 0 && len(list) > 0; back-- { // also before the first minute
		t := list[len(list)-1].Begin.UTC().Add(-time.Duration(back) * time.Minute)
		if at := x(minutes-1-back, minutes); t.Minute()%tickAll == 0 {
			add(`<path class="tl-grid" d="M%d %dV%d"/><text class="tl-tick" x="%d" y="%d">%s</text>`, at, head, bottom+4, at, bottom+18, t.Format("15:04"))
		}
	}
	for n, row := range Rows() {
		base := head + rowHeight*(n+1) - 8
		most, _ := sums(list, row)
		add(`<text class="tl-alg" x="8" y="%d">%s</text><text class="tl-legend" x="8" y="%d">at most %d in a minute</text>`, base-22, row.Name, base-6, most)
		add(`<path class="tl-rule" d="M%d %dH%d"/>`, left, base, left+step*minutes)
		if most > 0 {
			add(`<path class="tl-active" d="%s"/>`, bars(list, row, most, base))
		}
	}
	p.WriteString("</svg>\n")
	return p.String()
}

// x returns the left end of the bar of minute i. The newest minute is the rightmost one.
func x(i, count int) int { return left + step*(minutes-count+i) }

func bars(list []api.ActivityMinute, row Row, most uint64, base int) string {
	var d strings.Builder
	for i, m := range list {
		if count := row.Count(m); count > 0 {
			height := int(math.Ceil(barHeight * float64(count) / float64(most))) // one event can be seen
			fmt.Fprintf(&d, "M%d %dv-%dh%dv%dz", x(i, len(list)), base, height, barWidth, height)
		}
	}
	return d.String()
}

// sums returns the largest count of one minute and the count of all.
func sums(list []api.ActivityMinute, row Row) (most, all uint64) {
	for _, m := range list {
		most, all = max(most, row.Count(m)), all+row.Count(m)
	}
	return most, all
}

// describe says in words what the picture shows.
func describe(list []api.ActivityMinute) string {
	if len(list) == 0 {
		return "No minute was counted."
	}
	from, to := list[0].Begin, list[len(list)-1].Begin.Add(time.Minute)
	words := []string{"From " + from.UTC().Format("2006-01-02 15:04") + " to " + to.UTC().Format("15:04") + " UTC."}
	for _, row := range Rows() {
		most, all := sums(list, row)
		words = append(words, fmt.Sprintf("%s: %d, at most %d in a minute.", row.Name, all, most))
	}
	return strings.Join(words, " ")
}
