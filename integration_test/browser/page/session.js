// A session with a Keymill server, as a page keeps it: the access token in this
// module's memory and nowhere else, the refresh token in a cookie that no script can
// read. A tab that is opened or reloaded has only the cookie, so it begins with a
// refresh.

// A Refused is a no of the token server.
export class Refused extends Error {
  constructor(status, code) {
    super(`${status} ${code}`);
    this.status = status;
  }
}

// createSession talks to the token server at issuer. With locks one tab refreshes at
// a time; without them two tabs may send the same refresh token at once, and the
// server's grace is what keeps both logged in.
export function createSession(issuer, { locks }) {
  let token = "";
  let refreshing = null; // the refresh that this tab is waiting for

  async function post(path, body) {
    const response = await fetch(issuer + path, {
      method: "POST",
      credentials: "include",
      headers: body && { "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    const answer = text && JSON.parse(text);
    if (!response.ok) throw new Refused(response.status, answer.error ?? "");
    return answer;
  }

  async function login(username, password) {
    token = (await post("/session/login", { username, password })).access_token;
  }

  // refresh is one request however many callers of this tab wait for it.
  function refresh() {
    refreshing ??= exclusively(renew).finally(() => (refreshing = null));
    return refreshing;
  }

  function exclusively(work) {
    return locks ? navigator.locks.request("keymill-refresh", work) : work();
  }

  // Only a 401 ends a session: a server that is busy or gone says nothing about it.
  async function renew() {
    try {
      token = (await post("/session/refresh")).access_token;
    } catch (err) {
      if (err instanceof Refused && err.status === 401) token = "";
      throw err;
    }
  }

  async function logout() {
    token = "";
    await post("/session/logout");
  }

  // call fetches from a protected API. A token that the API takes for expired is
  // renewed once, and the call made again.
  async function call(url) {
    const response = await send(url);
    if (response.status !== 401) return response;
    await refresh();
    return send(url);
  }

  const send = (url) => fetch(url, { headers: { Authorization: `Bearer ${token}` } });

  return { login, refresh, logout, call };
}
