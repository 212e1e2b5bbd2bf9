// A page's session with a Keymill server. The access token is only in this module's memory. The
// refresh token is in a cookie that no script can read. A tab that is opened or reloaded has
// only the cookie, so it begins with a refresh.

// Refused is an error that the token server answered.
export class Refused extends Error {
  constructor(status, code) {
    super(`${status} ${code}`);
    this.status = status;
  }
}

// createSession returns a session with the token server at issuer. With locks one tab refreshes
// at a time. Without them two tabs may send the same refresh token at once, and the server's
// grace keeps both logged in.
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

  // refresh sends one request for all callers of this tab that wait for it.
  function refresh() {
    refreshing ??= exclusively(renew).finally(() => (refreshing = null));
    return refreshing;
  }

  function exclusively(work) {
    return locks ? navigator.locks.request("keymill-refresh", work) : work();
  }

  // Only a 401 ends the session. Another failure means that the server is busy or unreachable.
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

  // call fetches from a protected API. If the API refuses the token, call refreshes it once and
  // tries again.
  async function call(url) {
    const response = await send(url);
    if (response.status !== 401) return response;
    await refresh();
    return send(url);
  }

  const send = (url) => fetch(url, { headers: { Authorization: `Bearer ${token}` } });

  return { login, refresh, logout, call };
}
