// Sends the code of the link. It leaves the fragment out of the history first.
const code = location.hash.slice(1);
if (code) {
	history.replaceState(null, "", location.pathname);
	const form = document.querySelector("#login");
	form.elements.code.value = code;
	form.requestSubmit();
}
