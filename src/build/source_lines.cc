// A lexer for C and C++ that knows just enough to say where a line may be inserted.
//
// `#line` is harmless only at a place where the preprocessor would take it for a directive and the
// text around it would not mind. That is not so inside
//   - a block comment, or a line comment that a backslash continues;
//   - a string literal continued with a backslash, or a raw string, which holds newlines as they
//     are;
//   - the argument list of a macro (undefined behaviour, C11 6.10.3p11) – and since a lexer can't
//     know which names are macros, any parentheses count; nor between a name and a parenthesis that
//     starts the next line;
//   - a directive that is continued, by a backslash or by a comment that ends on a later line.
// Parentheses are counted per branch of #if: both branches of
//     #if X \n  if (a && \n #else \n if (b && \n #endif \n c) {
// open the one that is closed behind them. The depth at #else is that at #if. A line that is just
// "}" ends a function in every style of layout, so a count that went wrong (macros that hold one
// half of a pair) goes wrong for one function only.
//
// Everything here errs on the side of "not safe": then a few lines keep a shifted number.

#include "build/source_lines.h"

#include <algorithm>
#include <cctype>

namespace qp::build {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}
bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' ||
         static_cast<unsigned char>(c) >= 0x80;
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && is_blank(s.front())) {
    s.remove_prefix(1);
  }
  while (!s.empty() && is_blank(s.back())) {
    s.remove_suffix(1);
  }
  return s;
}

// True for "R", "LR", "u8R", "uR", "UR" in front of a quote.
bool is_raw_prefix(std::string_view name) {
  return name == "R" || name == "LR" || name == "uR" || name == "UR" || name == "u8R";
}

class Scanner {
 public:
  SourceLine next(std::string_view line) {
    SourceLine out;
    std::string_view trimmed = trim(line);
    out.blank = trimmed.empty();
    if (trimmed == "}" && line.front() == '}') {
      depth_ = 0;
    }
    bool open = comment_ || raw_ || spliced_ || in_directive_ || depth_ != 0;
    out.safe_before = !open && !starts_with_parenthesis(trimmed);
    bool continued = is_continued(line);
    if (continued) {
      line = line.substr(0, line.rfind('\\'));
    }
    std::string directive_text;
    bool starts_directive = scan(line, directive_text);
    if (starts_directive) {
      describe(directive_text, out);
      branch(out.directive);
    }
    if (!continued) {
      line_comment_ = false;
      quote_ = 0;  // an open quote without a backslash ends with its line (text in #if 0)
      if (!comment_) {
        in_directive_ = false;
      }
      if (!raw_ && !comment_) {
        fresh_ = true;
      }
    }
    spliced_ = continued;
    return out;
  }

 private:
  // GCC also accepts white space between the backslash and the newline.
  static bool is_continued(std::string_view line) {
    while (!line.empty() && is_blank(line.back())) {
      line.remove_suffix(1);
    }
    return line.ends_with("\\");
  }

  static bool starts_with_parenthesis(std::string_view s) {
    while (s.starts_with("/*") && s.find("*/", 2) != std::string_view::npos) {
      s = trim(s.substr(s.find("*/", 2) + 2));
    }
    return s.starts_with("(");
  }

  // Returns whether a directive begins here; its text without comments goes to `text`.
  bool scan(std::string_view s, std::string& text) {
    bool starts = false;
    std::string name;
    for (size_t i = 0; i < s.size();) {
      char c = s[i];
      char after = i + 1 < s.size() ? s[i + 1] : '\0';
      if (raw_) {
        size_t end = s.find(raw_end_, i);
        if (end == std::string_view::npos) {
          return starts;
        }
        raw_ = false;
        i = end + raw_end_.size();
        continue;
      }
      if (comment_) {
        size_t end = s.find("*/", i);
        if (end == std::string_view::npos) {
          return starts;
        }
        comment_ = false;
        i = end + 2;
        continue;
      }
      if (line_comment_) {
        return starts;
      }
      if (quote_ != 0) {
        if (in_directive_) {
          text += c;
        }
        if (c == '\\' && i + 1 < s.size()) {
          if (in_directive_) {
            text += after;
          }
          i += 2;
          continue;
        }
        if (c == quote_) {
          quote_ = 0;
        }
        ++i;
        continue;
      }
      if (c == '/' && after == '*') {
        comment_ = true;
        text += ' ';
        i += 2;
        name.clear();
        continue;
      }
      if (c == '/' && after == '/') {
        line_comment_ = true;
        return starts;
      }
      if (is_blank(c)) {
        if (in_directive_) {
          text += c;
        }
        name.clear();
        ++i;
        continue;
      }
      bool hash = c == '#' || (c == '%' && after == ':');
      if (fresh_ && hash) {
        in_directive_ = starts = true;
        fresh_ = false;
        i += c == '#' ? 1 : 2;
        continue;
      }
      fresh_ = false;
      if (in_directive_) {
        text += c;
      }
      if (c == '"' && is_raw_prefix(name) && begin_raw(s, i)) {
        name.clear();
        continue;
      }
      // 1'000'000: a quote inside of a number separates digits (C++14).
      bool digits = c == '\'' && !name.empty() &&
                    std::isdigit(static_cast<unsigned char>(name.front())) != 0 && is_name(after);
      if ((c == '"' || c == '\'') && !digits) {
        quote_ = c;
        name.clear();
      } else if (is_name(c) || digits || (c == '.' && !name.empty())) {
        name += c;
      } else {
        name.clear();
        if (!in_directive_) {
          depth_ += c == '(' ? 1 : 0;
          depth_ -= c == ')' && depth_ > 0 ? 1 : 0;
        }
      }
      ++i;
    }
    return starts;
  }

  // s[at] is the quote. Moves `at` behind the opening parenthesis.
  bool begin_raw(std::string_view s, size_t& at) {
    size_t open = s.find('(', at);
    // C++ [lex.string]: at most 16 characters, none of them a space, a parenthesis or a backslash.
    if (open == std::string_view::npos || open - at - 1 > 16) {
      return false;
    }
    std::string_view delimiter = s.substr(at + 1, open - at - 1);
    if (delimiter.find_first_of(" \\)\t") != std::string_view::npos) {
      return false;
    }
    raw_ = true;
    raw_end_ = ")" + std::string(delimiter) + "\"";
    at = open + 1;
    return true;
  }

  static void describe(std::string_view text, SourceLine& out) {
    text = trim(text);
    size_t end = 0;
    while (end < text.size() && is_name(text[end])) {
      ++end;
    }
    std::string_view word = text.substr(0, end), rest = trim(text.substr(end));
    bool numbered = !word.empty() && std::isdigit(static_cast<unsigned char>(word[0])) != 0;
    if (word == "if" || word == "ifdef" || word == "ifndef") {
      out.directive = Directive::If;
    } else if (word.starts_with("elif")) {
      out.directive = Directive::Elif;
    } else if (word == "else") {
      out.directive = Directive::Else;
    } else if (word == "endif") {
      out.directive = Directive::Endif;
    } else if (word == "line" || numbered) {
      out.directive = Directive::Line;
      std::string digits;
      for (char c : numbered ? word : rest) {
        if (std::isdigit(static_cast<unsigned char>(c)) == 0 || digits.size() > 9) {
          break;
        }
        digits += c;
      }
      out.number = digits.empty() ? 0 : std::stoull(digits);
    } else if (word == "include" || word == "include_next" || word == "import" || word == "embed") {
      out.directive = Directive::Include;
      out.argument = std::string(rest);
    } else {
      out.directive = Directive::Other;
    }
  }

  void branch(Directive directive) {
    if (directive == Directive::If) {
      depths_.push_back(depth_);
    } else if ((directive == Directive::Elif || directive == Directive::Else) && !depths_.empty()) {
      depth_ = depths_.back();
    } else if (directive == Directive::Endif && !depths_.empty()) {
      depths_.pop_back();
    }
  }

  bool comment_ = false, line_comment_ = false, raw_ = false, spliced_ = false;
  bool in_directive_ = false;
  bool fresh_ = true;  // nothing but white space and comments so far on this logical line
  char quote_ = 0;
  int depth_ = 0;
  std::string raw_end_;
  std::vector<int> depths_;
};

// Length of the literal that starts at s[0], prefix not included.
size_t literal_length(std::string_view s, bool raw) {
  if (raw) {
    size_t open = s.find('(');
    if (open != std::string_view::npos && open <= 17) {
      std::string end = ")" + std::string(s.substr(1, open - 1)) + "\"";
      size_t at = s.find(end, open);
      return at == std::string_view::npos ? s.size() : at + end.size();
    }
  }
  size_t i = 1;
  while (i < s.size() && s[i] != s[0] && s[i] != '\n') {
    i += s[i] == '\\' ? 2 : 1;
  }
  return std::min(i + 1, s.size());
}

}  // namespace

std::vector<SourceLine> scan_source(const std::vector<std::string_view>& lines) {
  std::vector<SourceLine> out;
  out.reserve(lines.size());
  Scanner scanner;
  for (std::string_view line : lines) {
    out.push_back(scanner.next(line));
  }
  return out;
}

std::string normalise_preprocessed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool line_start = true, gap = false;
  size_t i = 0;
  while (i < text.size()) {
    char c = text[i];
    if (c == '\n' || is_blank(c)) {
      line_start = line_start || c == '\n';
      gap = true;
      ++i;
      continue;
    }
    if (line_start && c == '#') {
      size_t end = std::min(text.find('\n', i), text.size());
      std::string_view directive = trim(text.substr(i + 1, end - i - 1));
      bool marker =
          !directive.empty() && (std::isdigit(static_cast<unsigned char>(directive[0])) != 0 ||
                                 directive.starts_with("line "));
      if (!marker) {
        // A directive is a line of its own, whatever is around it.
        out += '\n';
        out += text.substr(i, end - i);
        out += '\n';
      }
      gap = true;
      i = end;
      continue;
    }
    line_start = false;
    if (gap && !out.empty() && out.back() != '\n') {
      out += ' ';
    }
    gap = false;
    if (is_name(c)) {
      size_t end = i;
      bool number = std::isdigit(static_cast<unsigned char>(c)) != 0;
      while (end < text.size() &&
             (is_name(text[end]) || (number && text[end] == '.') ||
              (number && text[end] == '\'' && end + 1 < text.size() && is_name(text[end + 1])))) {
        ++end;
      }
      std::string_view name = text.substr(i, end - i);
      out += name;
      i = end;
      if (i < text.size() && text[i] == '"' && is_raw_prefix(name)) {
        size_t length = literal_length(text.substr(i), true);
        out += text.substr(i, length);
        i += length;
      }
    } else if (c == '"' || c == '\'') {
      size_t length = literal_length(text.substr(i), false);
      out += text.substr(i, length);
      i += length;
    } else {
      out += c;
      ++i;
    }
  }
  return out;
}

}  // namespace qp::build
