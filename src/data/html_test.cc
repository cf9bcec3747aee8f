// SPDX-License-Identifier: Apache-2.0
#include "data/html.h"

#include <gtest/gtest.h>

namespace naite::data {
namespace {

std::string text_of(std::string_view html) { return *html_to_text(html, "page.html"); }

TEST(Html, KeepsTheMainTextAndItsBreaks) {
  EXPECT_EQ(
      text_of("<html><head><title>t</title><style>p{}</style></head><body><header>top</header>"
              "<nav>a b</nav><h2>나이테 &amp; tree</h2><p>One <i>two</i>\n  three.</p><p>Four"
              "<br>five</p><script>var x = '<p>no</p>';</script><footer>end</footer>"),
      "## 나이테 & tree\n\nOne two three.\n\nFour\nfive\n");
}

TEST(Html, ListsTablesAndVerbatimText) {
  EXPECT_EQ(text_of("<ol><li>a<li>b<ul><li>c</ul></ol>"), "1. a\n2. b\n\n- c\n");
  EXPECT_EQ(
      text_of("<table><tr><th>x<th>y</tr><tr><td><p>1</p></td><td><p>2</p></td></tr></table>z"),
      "x\ty\n1\t2\n\nz\n");
  EXPECT_EQ(text_of("<p>a</p><pre>  if x:\n    y\n</pre><p>b</p>"), "a\n\n  if x:\n    y\n\n\nb\n");
}

TEST(Html, TheMarkedMainPartAloneCounts) {
  EXPECT_EQ(text_of("<div>menu</div><main><header><h1>T</h1></header>x</main><div>ads</div>"),
            "# T\n\nx\n");
  EXPECT_EQ(text_of("<div role=main>x</div>y"), "x\n");
  EXPECT_EQ(text_of("a<div hidden>b</div><div style='color:red;display:none'>c</div>d"),
            "a\n\nd\n");
}

TEST(Html, BrokenPagesStillGiveText) {
  EXPECT_EQ(text_of("<p>a<b>b</p>c</i></div><p"), "ab\n\nc\n");
  EXPECT_EQ(text_of(""), "");
  EXPECT_EQ(text_of("<!-- only a comment -->"), "");
  EXPECT_EQ(text_of(std::string_view("a\0b", 3)), "a\ufffdb\n");
  EXPECT_EQ(text_of("<meta charset=euc-kr><p>가나"), "가나\n");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<div>";
  EXPECT_TRUE(html_to_text(deep + "x", "page.html").ok());
}

}  // namespace
}  // namespace naite::data
