//! Tables of numbers with their spread: as text for a terminal and as HTML.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};
use maud::{Markup, html};

/// A table with quantities as rows and what is compared as columns.
pub struct Table {
    /// What the table shows.
    pub caption: String,
    /// The head of the first column, which says what the columns are.
    pub corner: String,
    /// The heads of the other columns.
    pub columns: Vec<String>,
    /// The rows.
    pub groups: Vec<Group>,
}

/// Rows under a common title.
pub struct Group {
    /// The title.
    pub title: String,
    /// The rows: a name and one cell per column. A name that begins with spaces belongs to the row
    /// above.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// A number as the table shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The number.
    pub main: String,
    /// Its spread.
    pub spread: Option<String>,
}

impl Cell {
    /// A mean, with a standard deviation if there is one.
    pub fn new(mean: f64, sd: Option<f64>, decimals: usize) -> Self {
        Self {
            main: format!("{mean:.decimals$}").replace('-', "−"),
            spread: sd.map(|sd| format!("±{sd:.decimals$}")),
        }
    }

    /// A text instead of a number.
    pub fn text(text: impl Into<String>) -> Self {
        Self { main: text.into(), spread: None }
    }

    fn line(&self) -> String {
        match &self.spread {
            Some(spread) => format!("{} {spread}", self.main),
            None => self.main.clone(),
        }
    }
}

/// A number of any size, to four digits.
pub fn short(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    let text = if (-5.0..6.0).contains(&magnitude) {
        format!("{value:.*}", (3.0 - magnitude).max(0.0) as usize)
    } else if value == 0.0 {
        "0".to_string()
    } else if value.is_infinite() {
        if value > 0.0 { "∞" } else { "−∞" }.to_string()
    } else {
        format!("{value:.3e}")
    };
    text.replace('-', "−")
}

impl Table {
    /// For a terminal of this width: as many of the table's columns side by side as fit, the others
    /// below.
    pub fn to_text(&self, width: usize) -> String {
        let length = |text: &str| text.chars().count();
        let rows = || self.groups.iter().flat_map(|group| &group.rows);
        let names = rows()
            .map(|(name, _)| length(name) + 2)
            .chain(self.groups.iter().map(|group| length(&group.title)))
            .chain([length(&self.corner)])
            .max()
            .unwrap_or(0);
        let cells = rows()
            .flat_map(|(_, cells)| cells)
            .map(|cell| length(&cell.line()))
            .chain(self.columns.iter().map(|head| length(head)))
            .max()
            .unwrap_or(0);
        const BETWEEN: usize = 2;
        let side_by_side =
            (width.saturating_sub(names) / (cells + BETWEEN)).clamp(1, self.columns.len().max(1));
        let blocks = (0..self.columns.len())
            .step_by(side_by_side)
            .map(|from| self.block(from, (from + side_by_side).min(self.columns.len())));
        blocks.collect::<Vec<_>>().join("\n\n")
    }

    fn block(&self, from: usize, to: usize) -> String {
        let header =
            std::iter::once(&self.corner).chain(&self.columns[from..to]).cloned().collect();
        let mut rows = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                rows.push(vec![String::new()]);
            }
            rows.push(vec![group.title.clone()]);
            rows.extend(group.rows.iter().map(|(name, cells)| {
                std::iter::once(format!("  {name}"))
                    .chain(cells[from..to].iter().map(Cell::line))
                    .collect()
            }));
        }
        grid(header, rows, CellAlignment::Left)
    }

    /// As HTML, with heads for rows and columns; the table scrolls sideways if the page is narrow.
    pub fn to_html(&self) -> Markup {
        html! {
            div.scroll role="region" aria-label=(self.caption) tabindex="0" {
                table {
                    caption { (self.caption) }
                    thead { tr {
                        th scope="col" { (self.corner) }
                        @for column in &self.columns { th scope="col" { (column) } }
                    } }
                    @for group in &self.groups {
                        tbody {
                            tr.group { th scope="rowgroup" colspan=(self.columns.len() + 1) { (group.title) } }
                            @for (name, cells) in &group.rows {
                                tr {
                                    th class=[name.starts_with(' ').then_some("part")] scope="row" { (name.trim_start()) }
                                    @for cell in cells {
                                        td { (cell.main) @if let Some(spread) = &cell.spread { " " small { (spread) } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Lines up rows of cells in columns under a header and a rule: the first column as told, the
/// others to the right.
pub fn grid(header: Vec<String>, rows: Vec<Vec<String>>, first: CellAlignment) -> String {
    let mut table = comfy_table::Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table
        .load_style(TableStyle::new().header_separator(rule))
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        // With the rule's joint, two columns between neighbours.
        column.set_padding((u16::from(index > 0), 0));
        column.set_cell_alignment(if index == 0 { first } else { CellAlignment::Right });
    }
    table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: usize) -> Table {
        Table {
            caption: "Numbers".into(),
            corner: "ε".into(),
            columns: (0..columns).map(|column| format!("0.{column}")).collect(),
            groups: vec![Group {
                title: "On test".into(),
                rows: vec![("accuracy, %".into(), vec![Cell::new(97.123, Some(0.5), 2); columns])],
            }],
        }
    }

    #[test]
    fn text_fits_the_terminal() {
        assert_eq!(
            table(2).to_text(80),
            "ε                      0.0          0.1\n\
             ───────────────────────────────────────\n\
             On test\n  \
             accuracy, %  97.12 ±0.50  97.12 ±0.50"
        );
        for width in [40, 80, 120] {
            let text = table(12).to_text(width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(text.matches("97.12 ±0.50").count(), 12);
        }
        assert_eq!(
            table(3).to_text(10).matches("97.12 ±0.50").count(),
            3,
            "a terminal too narrow for anything still gets all numbers"
        );
    }

    #[test]
    fn html_says_what_heads_what_and_escapes() {
        let mut table = table(1);
        table.columns[0] = "<b>".into();
        let html = table.to_html().into_string();
        assert!(html.contains("<th scope=\"col\">&lt;b&gt;</th>"), "{html}");
        assert!(
            html.contains("<th scope=\"row\">accuracy, %</th><td>97.12 <small>±0.50</small></td>"),
            "{html}"
        );
    }
}
