window.predefined = [];
