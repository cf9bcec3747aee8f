// SPDX-License-Identifier: Apache-2.0
#include "data/html.h"

#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <vector>

#include "data/unicode.h"

namespace naite::data {

namespace {

// Text with line breaks that are asked for before it is known whether more text follows.
class Sink {
 public:
  void ask_break(int newlines) {
    if (newlines == 0 || cell_start_) return;
    breaks_ = std::max(breaks_, newlines);
    space_ = false;
  }
  void ask_marker(std::string marker) { marker_ = std::move(marker); }

  // Runs of spaces count as one; none stands at the start of a line.
  void flow(std::string_view text) {
    for (const char c : text) {
      if (c == ' ' || (c >= 9 && c <= 13)) {
        space_ = true;
        continue;
      }
      const bool line_start = begin_line();
      if (space_ && !line_start) text_.push_back(' ');
      space_ = false;
      text_.push_back(c);
    }
  }
  void verbatim(std::string_view text) {
    if (text.empty()) return;
    begin_line();
    text_ += text;
  }
  // The cells of a row stand in one line, apart by tabs; paragraphs within a cell break it.
  void start_table() { row_has_text_ = false; }
  void start_row() {
    if (row_has_text_) breaks_ = 1;
    row_has_text_ = false;
  }
  void start_cell() {
    if (row_has_text_) {
      breaks_ = 0;
      ++tabs_;
    }
    cell_start_ = true;
    space_ = false;
  }
  void end_cell() { cell_start_ = false; }

  std::string take() {
    const size_t end = text_.find_last_not_of(" \t\n");
    text_.resize(end == std::string::npos ? 0 : end + 1);
    if (!text_.empty()) text_.push_back('\n');
    return std::move(text_);
  }
  bool empty() const { return text_.empty(); }

 private:
  // Writes what was asked for; true if text starts a line now.
  bool begin_line() {
    const bool breaks = breaks_ > 0;
    if (breaks && !text_.empty()) text_.append(static_cast<size_t>(breaks_), '\n');
    const bool start = breaks || tabs_ > 0 || text_.empty();
    if (!breaks) text_.append(static_cast<size_t>(tabs_), '\t');
    breaks_ = tabs_ = 0;
    cell_start_ = false;
    row_has_text_ = true;
    text_ += marker_;
    marker_.clear();
    return start;
  }

  std::string text_, marker_;
  int breaks_ = 0, tabs_ = 0;
  bool space_ = false, cell_start_ = false, row_has_text_ = false;
};

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

int heading_level(std::string_view name) {
  return name.size() == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6' ? name[1] - '0' : 0;
}

// Newlines around an element: 2 makes a blank line.
int breaks_around(std::string_view name) {
  if (heading_level(name) > 0 ||
      one_of(name, {"p", "ul", "ol", "dl", "table", "blockquote", "pre", "figure", "hr"}))
    return 2;
  if (one_of(name, {"div", "li", "tr", "br", "dt", "dd", "section", "article", "main", "header",
                    "figcaption", "address", "details", "summary", "caption", "body"}))
    return 1;
  return 0;
}

class Extractor {
 public:
  explicit Extractor(const std::atomic<bool>* stop) : stop_(stop) {}

  bool stopped() const { return stop_ != nullptr && stop_->load(); }

  std::string take() { return main_.empty() ? all_.take() : main_.take(); }

  void start(std::string_view name, const xmlChar** attributes) {
    ++depth_;
    if (skip_from_ > 0) return;
    const bool marks_main =
        one_of(name, {"main", "article"}) || attribute(attributes, "role") == "main";
    if (left_out(name, attributes)) {
      skip_from_ = depth_;
      return;
    }
    if (marks_main && main_from_ == 0) main_from_ = depth_;
    each([&](Sink& sink) { sink.ask_break(breaks_around(name)); });
    if (name == "pre" && pre_from_ == 0) pre_from_ = depth_;
    if (name == "ul" || name == "ol") lists_.push_back(name == "ol" ? 1 : 0);
    if (name == "li") {
      const bool numbered = !lists_.empty() && lists_.back() > 0;
      mark(numbered ? fmt::format("{}. ", lists_.back()++) : "- ");
    }
    if (const int level = heading_level(name); level > 0)
      mark(std::string(static_cast<size_t>(level), '#') + " ");
    if (name == "table") each([](Sink& sink) { sink.start_table(); });
    if (name == "tr") each([](Sink& sink) { sink.start_row(); });
    if (name == "td" || name == "th") each([](Sink& sink) { sink.start_cell(); });
  }

  void end(std::string_view name) {
    if (skip_from_ == 0) {
      if (name == "td" || name == "th") each([](Sink& sink) { sink.end_cell(); });
      each([&](Sink& sink) {
        if (const int breaks = breaks_around(name); breaks > 0) sink.ask_break(breaks);
      });
      if ((name == "ul" || name == "ol") && !lists_.empty()) lists_.pop_back();
    }
    for (int* from : {&skip_from_, &main_from_, &pre_from_})
      if (*from == depth_) *from = 0;
    --depth_;
  }

  void text(std::string_view text) {
    if (skip_from_ > 0) return;
    each([&](Sink& sink) { pre_from_ > 0 ? sink.verbatim(text) : sink.flow(text); });
  }

 private:
  template <class Do>
  void each(Do apply) {
    apply(all_);
    if (main_from_ > 0) apply(main_);
  }

  void mark(const std::string& marker) {
    each([&](Sink& sink) { sink.ask_marker(marker); });
  }

  static std::string_view attribute(const xmlChar** attributes, std::string_view name) {
    for (; attributes != nullptr && attributes[0] != nullptr; attributes += 2)
      if (name == reinterpret_cast<const char*>(attributes[0]))
        return attributes[1] == nullptr ? std::string_view("")
                                        : reinterpret_cast<const char*>(attributes[1]);
    return "\x01";  // no attribute has this value
  }

  bool left_out(std::string_view name, const xmlChar** attributes) const {
    if (one_of(name, {"head", "script", "style", "noscript", "template", "nav", "aside", "footer",
                      "form", "button", "select", "textarea", "iframe", "object", "svg", "canvas",
                      "audio", "video", "menu"}))
      return true;
    if (name == "header" && main_from_ == 0) return true;  // of the page, not of its main part
    if (attribute(attributes, "hidden") != "\x01") return true;
    if (attribute(attributes, "aria-hidden") == "true") return true;
    const std::string_view style = attribute(attributes, "style");
    if (style.find("display:none") != std::string_view::npos ||
        style.find("display: none") != std::string_view::npos)
      return true;
    return one_of(attribute(attributes, "role"),
                  {"navigation", "banner", "contentinfo", "search", "complementary"});
  }

  const std::atomic<bool>* stop_;
  Sink all_, main_;
  std::vector<int> lists_;
  int depth_ = 0, skip_from_ = 0, main_from_ = 0, pre_from_ = 0;
};

struct Parsing {
  Extractor extractor;
  htmlParserCtxtPtr parser;
};

void on_start(void* context, const xmlChar* name, const xmlChar** attributes) {
  auto* parsing = static_cast<Parsing*>(context);
  if (parsing->extractor.stopped()) xmlStopParser(parsing->parser);
  parsing->extractor.start(reinterpret_cast<const char*>(name), attributes);
}
void on_end(void* context, const xmlChar* name) {
  static_cast<Parsing*>(context)->extractor.end(reinterpret_cast<const char*>(name));
}
void on_text(void* context, const xmlChar* text, int size) {
  static_cast<Parsing*>(context)->extractor.text(
      {reinterpret_cast<const char*>(text), static_cast<size_t>(size)});
}

}  // namespace

Result<std::string> html_to_text(std::string_view html, std::string_view name,
                                 const std::atomic<bool>* stop) {
  // libxml2 would stop at a NUL; HTML itself reads it as U+FFFD.
  std::string clean;
  if (html.find('\0') != std::string_view::npos) {
    for (const char c : html) c == '\0' ? append_utf8(0xfffd, clean) : clean.push_back(c);
    html = clean;
  }
  if (html.empty()) return std::string();
  htmlParserCtxtPtr parser = htmlCreateMemoryParserCtxt(html.data(), static_cast<int>(html.size()));
  if (parser == nullptr) return fail("{}: no memory for the HTML parser", name);
  Parsing parsing{Extractor(stop), parser};
  htmlSAXHandler events{};
  events.startElement = on_start;
  events.endElement = on_end;
  events.characters = on_text;
  events.ignorableWhitespace = on_text;
  htmlSAXHandler* const own = parser->sax;
  parser->sax = &events;
  parser->userData = &parsing;
  htmlCtxtUseOptions(parser, HTML_PARSE_IGNORE_ENC | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                 HTML_PARSE_NONET | HTML_PARSE_RECOVER);
  xmlSwitchEncoding(parser, XML_CHAR_ENCODING_UTF8);
  htmlParseDocument(parser);
  parser->sax = own;
  if (parser->myDoc != nullptr) xmlFreeDoc(parser->myDoc);
  htmlFreeParserCtxt(parser);
  return parsing.extractor.take();
}

}  // namespace naite::data
