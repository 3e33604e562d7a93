//! A line plot as SVG: the horizontal axis logarithmic, the vertical one from zero.

use std::fmt::Write;

const LEFT: f64 = 70.0;
const TOP: f64 = 30.0;
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
/// For the names of the lines.
const LEGEND: f64 = 260.0;
const STEPS: u32 = 5;
const COLORS: [&str; 3] = ["#0b6e4f", "#c1440e", "#1f4e9c"];

pub struct Line {
    pub name: String,
    pub color: usize,
    pub dashed: bool,
    /// Both coordinates are positive.
    pub points: Vec<(f64, f64)>,
}

pub fn svg(title: &str, horizontal: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (least, most) = points().fold((f64::MAX, 0.0_f64), |(l, m), (x, _)| (l.min(*x), m.max(*x)));
    let top = round_up(points().fold(0.0, |top: f64, (_, y)| top.max(*y)));
    let x = |value: f64| LEFT + (value / least).ln() / (most / least).ln().max(1e-9) * WIDTH;
    let y = |value: f64| TOP + HEIGHT - value / top * HEIGHT;
    let (width, height) = (LEFT + WIDTH + LEGEND, TOP + HEIGHT + 50.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut add = |element: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "{element}");
    };
    add(format!("<text x=\"{LEFT}\" y=\"18\">{title}</text>"));
    add(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{horizontal}</text>",
        LEFT + WIDTH / 2.0,
        height - 8.0
    ));
    for step in 0..=STEPS {
        let value = top / f64::from(STEPS) * f64::from(step);
        let (at, end) = (y(value), LEFT + WIDTH);
        add(format!("<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 8.0, at + 4.0));
    }
    let mut marks: Vec<f64> = points().map(|(x, _)| *x).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for mark in marks {
        let (at, below) = (x(mark), TOP + HEIGHT + 18.0);
        add(format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{mark}</text>"));
    }
    for (number, line) in lines.iter().enumerate() {
        let color = COLORS[line.color % COLORS.len()];
        let dashes = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let path: Vec<String> = line.points.iter().map(|(h, v)| format!("{:.1},{:.1}", x(*h), y(*v))).collect();
        let pen = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dashes}");
        add(format!("<polyline points=\"{}\" {pen}/>", path.join(" ")));
        let (from, at) = (LEFT + WIDTH + 20.0, TOP + 10.0 + 20.0 * number as f64);
        add(format!("<line x1=\"{from}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" {pen}/>", from + 30.0));
        add(format!("<text x=\"{}\" y=\"{}\">{}</text>", from + 38.0, at + 4.0, line.name));
    }
    svg + "</svg>\n"
}

/// The next of 1, 2, 5, 10, 20, 50, ...
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * unit).into_iter().find(|step| *step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number() {
        assert_eq!([0.9, 3.0, 7.0, 120.0].map(round_up), [1.0, 5.0, 10.0, 200.0]);
    }

    #[test]
    fn a_line_has_its_points_and_its_name() {
        let line = Line { name: "a".into(), color: 0, dashed: false, points: vec![(10.0, 1.0), (100.0, 2.0)] };
        let svg = svg("title", "events", &[line]);
        assert!(svg.contains("points=\"70.0,160.0 490.0,30.0\""), "{svg}");
    }
}
