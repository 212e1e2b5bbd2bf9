// Keeps a live page up to date: it asks for the page again and takes over its content. The document comes from
// XMLHttpRequest, which runs no script of it, so no string becomes HTML here. A page with the focus in its
// content, with a selection or in the background stays as it is.
const every = 5000;

function busy(main) {
	return document.hidden || main.contains(document.activeElement) && document.activeElement !== main || !getSelection().isCollapsed;
}

function renew() {
	const main = document.querySelector("main");
	const again = main.dataset.again;
	if (!again) return;
	if (busy(main)) return void setTimeout(renew, every);
	const request = new XMLHttpRequest();
	request.open("GET", again);
	request.responseType = "document";
	request.timeout = 30000;
	request.onloadend = () => {
		const next = request.response?.querySelector("main");
		if (!next) {
			ended(main);
		} else if (!busy(main)) {
			document.title = request.response.title;
			replace(main, document.adoptNode(next));
		}
		setTimeout(renew, every);
	};
	request.send();
}

// replace keeps the focus of the skip link, and the place to which a wide picture was scrolled. A page that says the same
// stays, so that a screen reader does not read its alert again.
function replace(main, next) {
	if (main.isEqualNode(next)) return;
	const focused = document.activeElement === main;
	const at = main.querySelector(".picture")?.scrollLeft;
	main.replaceWith(next);
	if (at) next.querySelector(".picture")?.scrollTo(at, 0);
	if (focused) next.focus({preventScroll: true});
}

function ended(main) {
	if (main.querySelector("#ended")) return;
	const note = document.createElement("p");
	note.id = "ended";
	note.className = "problem";
	note.setAttribute("role", "alert");
	note.textContent = "The console does not answer. If it has ended, start it again in its terminal.";
	main.prepend(note);
}

// A form that was sent once is not sent again by a double click. The console does not rely on it.
addEventListener("submit", (e) => {
	if (e.target.method !== "post") return;
	if (e.target.dataset.sent) e.preventDefault();
	e.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((f) => delete f.dataset.sent));

setTimeout(renew, every);
