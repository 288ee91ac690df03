// A conversation: the visitor's messages and the model's replies.

import { fill, h, percent } from "./dom.js";

export function chatInput(column) {
  const log = h("ol", {
    class: "chat",
    "aria-live": "polite",
    "aria-label": "Conversation",
    tabindex: "0",
  });
  const field = h("input", {
    type: "text",
    autocomplete: "off",
    "aria-label": "Message",
    placeholder: "Say hello",
  });
  const form = h(
    "form",
    {
      class: "row",
      onsubmit: (event) => {
        event.preventDefault();
        const text = field.value.trim();
        if (!text) return;
        field.value = "";
        column.feed([text]);
      },
    },
    field,
    h("button", { class: "primary", type: "submit" }, "Send"),
  );

  function show() {
    fill(
      log,
      column.past
        .slice(-50)
        .flatMap(({ item, answers: [answer] }) => [
          h("li", { class: "mine" }, item),
          answer
            ? h(
                "li",
                { class: answer.unsure ? "theirs unsure" : "theirs" },
                answer.reply,
                h("small", {}, ` ${percent(answer.p)}${answer.unsure ? ", unsure" : ""}`),
              )
            : null,
        ]),
    );
    log.scrollTop = log.scrollHeight;
  }

  return { element: h("div", {}, log, form), show };
}
