// Orders logs in, shows what a protected API answers, refreshes and logs out. A test reads its
// state from #answer, #error and the data attributes of main.
import { createApp, h, reactive } from "vue";
import config from "/config.js";
import { createSession, Refused } from "/session.js";

const locks = new URLSearchParams(location.search).get("locks") === "1";
const session = createSession(config.issuer, { locks });
const state = reactive({ view: "starting", answer: "", error: "", refreshes: 0, busy: false });

// act runs one action of the user. It shows the next view, or the login form if the session
// has ended.
async function act(work, next = "orders") {
  state.busy = true;
  state.error = "";
  try {
    await work();
    state.view = next;
  } catch (err) {
    state.error = err.message;
    if (err instanceof Refused && err.status === 401) state.view = "login";
  } finally {
    state.busy = false;
  }
}

const login = (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  return act(() => session.login(form.get("username"), form.get("password")));
};

const refresh = () => act(async () => {
  await session.refresh();
  state.refreshes++;
});

const orders = () => act(async () => {
  state.answer = "";
  const response = await session.call(`${config.api}/orders`);
  state.answer = `${response.status} ${await response.text()}`;
});

const logout = () => act(() => session.logout(), "login");

const loginForm = () => h("form", { id: "login", onSubmit: login }, [
  h("label", ["User name ", h("input", { name: "username", autocomplete: "username", required: true })]),
  h("label", ["Password ", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })]),
  h("button", "Log in"),
]);

const ordersView = () => h("section", { id: "orders" }, [
  h("button", { id: "call", onClick: orders }, "Orders"),
  h("button", { id: "refresh", onClick: refresh }, "Refresh"),
  h("button", { id: "logout", onClick: logout }, "Log out"),
  h("pre", { id: "answer" }, state.answer),
]);

createApp({
  mounted: async () => {
    await act(() => session.refresh());
    if (state.view === "login") state.error = ""; // to have no session yet is no error
    if (state.view === "starting") state.view = "login";
  },
  render: () => h("main", { "data-busy": state.busy, "data-view": state.view, "data-refreshes": state.refreshes }, [
    h("h1", "Orders"),
    state.view === "login" ? loginForm() : state.view === "orders" ? ordersView() : null,
    h("p", { id: "error", role: "alert" }, state.error),
  ]),
}).mount("#app");
